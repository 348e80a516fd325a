"""The folder of an edit plan: each finished step, so that an interrupted run can resume, and the final patch.

    DIR/plan.json             the plan's identity; once finished, also its models
    DIR/steps/00000/          a finished step: its patch, and step.json with the replies right after it
    DIR/patch.json, ...       the final patch, for `load_patch(DIR)`; under instance-single one per request, DIR/00000/

A step is written to a temporary folder, flushed and renamed, so that it is complete or absent. plan.json says that the
plan is finished only after the patch is on disk. With `--patch DIR` the folder belongs to the user, and nothing in it
is deleted. Otherwise it lies in the store, which drops patches that are large or have not been used for a month.
"""

import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock

from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.measures.edit_probes import EditProbe, EditReply, Replies
from audit.models.fingerprints import content_fingerprint
from audit.models.patches import DESCRIPTION_FILE, TENSORS_FILE, ModulePatch, Patch, load_patch
from audit.store.content import Store, flush_to_disk
from audit.store.files import ASIDE, clear_way, mark_used, read_json, set_aside
from audit.store.places import PLANS

FORMAT = "model-edit-audit plan 1"
PLAN_FILE, STEP_FILE, STEPS, LOCK = "plan.json", "step.json", "steps", ".lock"
FILES = (".json", ".safetensors", ".tmp")  # what a plan in the store consists of, besides folders
ABANDONED_AFTER = 30 * 24 * 3600.0  # seconds without use until a plan in the store is deleted
LARGEST_KEPT = 2 << 30  # bytes of a finished patch that the store keeps


@dataclass(frozen=True, eq=False)
class KeptStep:
    """A finished step, or a model of a finished plan: its patch and the replies right after it.

    `patch` is None for a step whose attached modules were replaced by those of a later step.
    """

    patch: Patch | None
    immediate: Replies


class PlanFolder:
    """The folder of one plan.

    Args:
        root: the folder; created when something is first written.
        identity: all that the patch depends on, by name, as JSON data; "weights" is the base model's fingerprint.
        in_store: whether the folder lies in the store. There, unusable files count as missing; in a user's folder
            (`--patch`) they are an error.
        patch_stays: whether the patch of a finished plan is kept; if not, the folder holds steps until the plan is
            finished.
    """

    def __init__(
        self, root: Path, identity: Mapping[str, Any], *, in_store: bool = False, patch_stays: bool = True
    ) -> None:
        self.root = root
        self._in_store = in_store
        self._patch_stays = patch_stays
        self._identity: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **identity}))

    @classmethod
    def in_store(cls, store: Store, identity: Mapping[str, Any], *, patch_stays: bool = True) -> "PlanFolder":
        """The plan's folder in the store."""
        root = store.root / PLANS / content_fingerprint(identity)[:32]
        return cls(root, identity, in_store=True, patch_stays=patch_stays)

    def finished(self) -> tuple[KeptStep, ...] | None:
        """The models of the finished plan: one, or one per request under instance-single; None if it is not finished.

        Raises:
            AuditError: a user's folder holds another plan, other files, or a damaged patch.
        """
        self._clear()
        plan = self._read_plan()
        if plan is None or not plan.get("finished"):
            return None
        try:
            try:
                models = tuple(self._finished_model(model) for model in plan["models"])
            except (KeyError, TypeError) as error:
                raise self._useless(f"its {PLAN_FILE} lacks a field or has a wrong one ({error})") from None
        except AuditError:
            if self._in_store:
                with self._usable():
                    (self.root / PLAN_FILE).unlink(missing_ok=True)
                return None
            raise
        if self._in_store:
            mark_used(self.root / PLAN_FILE)
        return models

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the folder; waits until no other run uses it."""
        lock = FileLock(self.root / LOCK)
        self._clear()
        with self._usable():
            self.root.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def begin(self, requests: Sequence[EditRequest]) -> None:
        """Claim the folder for this plan; call it inside `alone`, before the first step."""
        with self._usable():
            if self._in_store:
                _remove_abandoned(self.root)
            if self._read_plan() is None:
                shutil.rmtree(self.root / STEPS, ignore_errors=True)
                self._write_plan({"finished": False, "case_ids": [request.case_id for request in requests]})
            for leftover in (self.root / STEPS).glob(".writing-*"):
                shutil.rmtree(leftover, ignore_errors=True)

    def steps(self) -> tuple[KeptStep, ...]:
        """The finished steps up to the first one that is missing or damaged; later ones are removed."""
        read: list[KeptStep] = []
        for number in itertools.count():
            step = self._read_step(number)
            if step is None:
                break
            read.append(step)
        while gaps := [number for number, step in enumerate(read) if step.patch is None]:
            if any(isinstance(step.patch, ModulePatch) for step in read[gaps[-1] + 1 :]):
                break
            read = read[: gaps[-1]]  # the step that replaced these modules is lost
        with self._usable():
            for folder in (self.root / STEPS).glob("[0-9]*"):
                if not folder.name.isdigit() or int(folder.name) >= len(read):
                    shutil.rmtree(folder)
        return tuple(read)

    def keep(self, number: int, step: KeptStep, requests: Sequence[EditRequest]) -> None:
        """Store a finished step; once this returns, it survives a crash of this run."""
        assert step.patch is not None
        content = {
            "step": number,
            "case_ids": [request.case_id for request in requests],
            "patch": step.patch.fingerprint,
            "immediate": _plain(step.immediate),
        }
        with self._usable():
            folder = self._step(number)
            draft = folder.with_name(f".writing-{uuid4().hex}")
            step.patch.save(draft)
            sealed = {**content, "sha256": content_fingerprint(content)}
            (draft / STEP_FILE).write_text(_text(sealed), encoding="utf-8")
            _flush(draft)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(draft, folder)
            flush_to_disk(folder.parent)

    def drop_patch(self, number: int) -> None:
        """Delete the patch of a step whose modules were replaced by those of a later step; its replies stay."""
        with self._usable():
            for name in (DESCRIPTION_FILE, TENSORS_FILE):  # in this order: without a description there is no patch
                (self._step(number) / name).unlink(missing_ok=True)

    def finish(self, models: Sequence[tuple[KeptStep, Sequence[EditRequest]]], versions: Mapping[str, str]) -> None:
        """Store the models of the finished plan, each with its requests, and delete the steps."""
        with self._usable():
            if not self._patch_stays:
                _empty(self.root)
                return
            described: list[dict[str, Any]] = []
            for number, (model, requests) in enumerate(models):
                assert model.patch is not None
                folder = "." if len(models) == 1 else f"{number:05d}"
                model.patch.save(self.root / folder)
                _flush(self.root / folder)
                case_ids = [request.case_id for request in requests]
                fingerprint = model.patch.fingerprint
                replies = _plain(model.immediate)
                described.append({"folder": folder, "patch": fingerprint, "case_ids": case_ids, "immediate": replies})
            if self._in_store and _bytes(self.root) > LARGEST_KEPT:
                _empty(self.root)
                return
            self._write_plan({"finished": True, "versions": dict(versions), "models": described})
            shutil.rmtree(self.root / STEPS, ignore_errors=True)

    def _clear(self) -> None:
        """Move aside what is neither a file nor a folder where the store has one; links are not followed."""
        if not self._in_store:
            return
        with self._usable():
            clear_way(self.root.parent.parent, self.root / PLAN_FILE)
            for path in list(self.root.rglob("*")):
                if not path.name.endswith(ASIDE):
                    set_aside(path, wanted="file" if path.suffix in FILES or path.name == LOCK else "folder")

    def _finished_model(self, model: Mapping[str, Any]) -> KeptStep:
        patch = load_patch(self.root / model["folder"], base=self._identity.get("weights"))
        if patch.fingerprint != model["patch"]:
            raise self._useless(f"the patch in it is not the one that {PLAN_FILE} names")
        return KeptStep(patch, _replies(model["immediate"]))

    def _read_step(self, number: int) -> KeptStep | None:
        """A step; None if it is missing, damaged, or belongs to another model."""
        folder = self._step(number)
        try:
            content = read_json(folder / STEP_FILE)
            if content.pop("sha256") != content_fingerprint(content) or content["step"] != number:
                return None
            replies = _replies(content["immediate"])
            if not (folder / DESCRIPTION_FILE).exists():
                return KeptStep(None, replies)
            patch = load_patch(folder, base=self._identity.get("weights"))
        except (AuditError, OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return KeptStep(patch, replies) if patch.fingerprint == content["patch"] else None

    def _read_plan(self) -> dict[str, Any] | None:
        """plan.json of this plan; None if it is missing, or unusable in the store."""
        try:
            plan = read_json(self.root / PLAN_FILE)
            theirs: dict[str, Any] = plan["identity"]
            differing = [key for key in {**self._identity, **theirs} if theirs.get(key) != self._identity.get(key)]
        except (FileNotFoundError, NotADirectoryError):
            if not self._in_store and _holds_other_files(self.root):
                raise self._useless(f"it holds other files but no {PLAN_FILE}") from None
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            if not self._in_store:
                raise self._useless(f"its {PLAN_FILE} cannot be read") from None
            return None
        if not differing:
            return dict(plan)
        if not self._in_store:
            verb = "differs" if len(differing) == 1 else "differ"
            raise self._useless(f"it holds the patch of another plan ({', '.join(differing)} {verb})")
        return None

    def _write_plan(self, content: Mapping[str, Any]) -> None:
        aside = self.root / f"{PLAN_FILE}.{uuid4().hex}.tmp"
        aside.write_text(_text({"identity": self._identity, **content}), encoding="utf-8")
        flush_to_disk(aside)
        os.replace(aside, self.root / PLAN_FILE)
        flush_to_disk(self.root)

    def _step(self, number: int) -> Path:
        return self.root / STEPS / f"{number:05d}"

    def _useless(self, reason: str) -> AuditError:
        return AuditError(f"--patch {self.root} cannot be used: {reason}; give another folder, or delete this one.")

    @contextmanager
    def _usable(self) -> Iterator[None]:
        remedy = "free some space or use --no-store" if self._in_store else "give another --patch folder"
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise AuditError(f"the edit plan cannot be stored in {self.root} ({reason}); {remedy}.") from error


def is_sound(root: Path) -> bool:
    """Whether a plan in the store is what its name and its checksums say; nothing is changed.

    A folder without plan.json is sound: a finished plan whose patch does not stay, or one that has not begun.
    """
    if not (root / PLAN_FILE).exists():
        return True
    try:
        identity = read_json(root / PLAN_FILE)["identity"]
        named = content_fingerprint({key: value for key, value in identity.items() if key != "format"})[:32]
        plan = PlanFolder(root, identity)  # as a folder of the user, whose damage is an error
        if named == root.name and plan.finished() is None:
            return all(plan._read_step(int(step.name)) for step in (root / STEPS).glob("[0-9]*"))
    except (AuditError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return named == root.name


def _plain(replies: Replies) -> list[dict[str, Any]]:
    """Replies as JSON data; each object has the fields of the probe and of the reply."""
    plain = [{**asdict(probe), **asdict(reply)} for probe, reply in replies.items()]
    return [{key: list(value) if isinstance(value, tuple) else value for key, value in one.items()} for one in plain]


def _replies(plain: Sequence[Mapping[str, Any]]) -> dict[EditProbe, EditReply]:
    """The replies in JSON data; those of older versions have no aliases, rivals or log-probabilities."""
    return {
        EditProbe(
            one["case_id"], one["kind"], one["prompt"], one["answer"], tuple(one.get("aliases", ())), one.get("rival")
        ): EditReply(
            one["text"],
            tuple(one["predictions"]),
            tuple(one["token_hits"]),
            one.get("log_probability"),
            one.get("rival_log_probability"),
        )
        for one in plain
    }


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"  # ASCII, so that any text of a model survives


def _flush(folder: Path) -> None:
    """Wait until everything in `folder` is on disk."""
    for path in (*folder.rglob("*"), folder):
        if path.name != LOCK and not path.name.endswith(ASIDE):
            flush_to_disk(path)


def _holds_other_files(root: Path) -> bool:
    """Whether the folder has files of other origin; a partial plan.json may come from a killed run."""
    ours = (LOCK, STEPS)
    return root.is_dir() and any(x.name not in ours and not x.name.startswith(PLAN_FILE) for x in root.iterdir())


def _empty(root: Path) -> None:
    """Delete everything except the lock, for which other runs may be waiting."""
    for path in root.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink()


def _bytes(root: Path) -> int:
    """The size of all tensor files under `root`, without those of the steps."""
    files = (path for path in root.rglob(TENSORS_FILE) if STEPS not in path.relative_to(root).parts)
    return sum(path.stat().st_size for path in files)


def _remove_abandoned(root: Path) -> None:
    """Delete the plans in the store that were neither continued nor used for a month."""
    oldest = time.time() - ABANDONED_AFTER
    for folder in root.parent.iterdir():
        seen = [place.stat().st_mtime for place in (folder / STEPS, folder / PLAN_FILE) if place.exists()]
        if folder != root and seen and max(seen) < oldest:
            shutil.rmtree(folder, ignore_errors=True)
