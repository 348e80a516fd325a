"""A look after the store: how large it is, what has not been used for long, and whether everything in it is sound.

    size = measured(Path("cache"))
    pruned(Path("cache"), older_than=30 * 86400.0, dry_run=True)
    verified(Path("cache"), remove=False, watcher=None)

Nothing is deleted that a run locks or has used in the last hour. What is deleted is computed again when it is needed.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from filelock import Timeout

from audit.engine.model_state import state_fingerprint
from audit.errors import AuditError
from audit.progress import Stages, Watcher
from audit.reports.workflows.store import Damage, Pruning, StoreSize, Verification
from audit.settings.options import DTYPES
from audit.store.answer_log import AnswerLog, damaged_lines
from audit.store.content import ABANDONED_AFTER, Store, usable
from audit.store.files import read_json
from audit.store.inventory import LAYERS, LEFTOVER, LOG, MODEL, PLAN, PROMPT, Entry, entries, remove

_DEVICE_TYPES = ("cpu", "cuda", "mps")


def measured(root: Path) -> StoreSize:
    """The entries of a store, and the base models that they belong to. Loads no model.

    Raises:
        AuditError: the folder cannot be read.
    """
    with usable(root):
        found = entries(root)
        return StoreSize(str(root), tuple(found), _models_of(root, found))


def pruned(root: Path, *, older_than: float, dry_run: bool) -> Pruning:
    """Delete the entries that were not used for `older_than` seconds; with `dry_run` only say which.

    Raises:
        AuditError: `older_than` is under an hour, or a file cannot be deleted.
    """
    if older_than < ABANDONED_AFTER:
        raise AuditError(
            f"--older-than {older_than:g} seconds: a running audit may still need what was used so recently; "
            "give at least 1h."
        )
    with usable(root):
        now = time.time()
        old = [entry for entry in entries(root) if entry.unused_for(now) >= older_than]
        stays = [] if dry_run else [entry for entry in old if not remove(root, entry, unused_for=older_than)]
    return Pruning(str(root), older_than, tuple(entry for entry in old if entry not in stays), tuple(stays), dry_run)


def verified(root: Path, *, remove_damaged: bool, watcher: Watcher | None = None) -> Verification:
    """Read every entry and compare it with its checksum. Damaged ones are deleted with `remove_damaged`.

    Of a damaged log only the damaged lines are deleted. Converted models and disturbed prompts have no checksum.

    Raises:
        AuditError: the folder cannot be used.
    """
    with usable(root), Stages(watcher)("verifying", "entries verified") as done:
        found = [entry for entry in entries(root) if entry.kind != LEFTOVER]
        damaged = []
        for number, entry in enumerate(found):
            what = _damage(root, entry)
            if what:
                damaged.append(Damage(entry, what, _fate(root, entry) if remove_damaged else "left"))
            done(number + 1, len(found))
    unchecked = Counter(entry.kind for entry in found if entry.kind in (MODEL, PROMPT))
    return Verification(str(root), len(found), tuple(damaged), unchecked)


def _damage(root: Path, entry: Entry) -> str:
    """What is wrong with an entry; "" if nothing is."""
    path = root / entry.name
    try:
        if entry.kind == LOG:
            lines = damaged_lines(path)
            return f"{lines} of its lines {'is' if lines == 1 else 'are'} damaged" if lines else ""
        sound, what = _check(entry.kind)
        return "" if sound(root, path) else what
    except FileNotFoundError:
        return ""  # another run has just replaced or deleted it
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"


def _check(kind: str) -> tuple[Callable[[Path, Path], bool], str]:
    """How an entry of a kind is checked, and what is wrong where it fails."""
    if kind == PLAN:
        from audit.editing.plan_folder import is_sound  # imports torch

        return lambda root, path: is_sound(path), "its identity, a step or the patch is not what its checksum says"
    if kind == MODEL:
        from audit.models.files.gguf import complete_conversion  # imports torch

        return lambda root, path: complete_conversion(path), "a file is missing or does not have its size"
    if kind == PROMPT:
        return lambda root, path: True, ""
    return lambda root, path: Store(root).is_sound(path), "its content is not what its checksum says"


def _fate(root: Path, entry: Entry) -> str:
    if entry.kind != LOG:
        return "deleted" if remove(root, entry) else "in use"
    with suppress(Timeout):
        damaged_lines(root / entry.name, drop=True)
        return "repaired"
    return "in use"


def _models_of(root: Path, found: Sequence[Entry]) -> dict[str, str]:
    """By the name of an entry, the fingerprint of the base model's weights, where it is known.

    An edit plan names it, and so does the key of located layers. An answer log is named by a hash of the model's state,
    which is computed here for every state of the models that the plans name.
    """
    models = {entry.name: entry.key.rsplit(" ", 1)[1] for entry in found if entry.kind == LAYERS}
    logs = {(root / entry.name).stem: entry.name for entry in found if entry.kind == LOG}
    for entry in found:
        if entry.kind == PLAN:
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                plan = read_json(root / entry.name / "plan.json")
                weights, tokenizer = plan["identity"]["weights"], plan["identity"]["tokenizer"]
                models[entry.name] = weights
                patches = [None, *(model["patch"] for model in plan.get("models", ()))]
                for state in _states(weights, tokenizer, patches):
                    log = AnswerLog.of(Store(root), state).path.stem
                    if log in logs:
                        models[logs[log]] = weights
    return models


def _states(weights: str, tokenizer: str, patches: Sequence[str | None]) -> Iterator[str]:
    """The states of a base model and its edited models, in every precision and on every type of device."""
    for patch, dtype, device in itertools.product(patches, DTYPES[1:], _DEVICE_TYPES):
        yield state_fingerprint(weights, tokenizer, patch, f"torch.{dtype}", device)
