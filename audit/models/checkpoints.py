"""A checkpoint that somebody else edited becomes a patch over the base model that is loaded already.

    patch = read_checkpoint(lm, "./my-edited-checkpoint")
    with patch.applied(lm):
        ...  # the very weights of that checkpoint, with no second model in memory

It may be a whole checkpoint (a folder that save_pretrained wrote, sharded or not, or a hub id), a LoRA adapter, a patch
that was saved here, or one safetensors file of differences. Only tensors that differ are kept.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download

from audit.errors import AuditError
from audit.models.adapters import CONFIG_FILE as ADAPTER_FILE
from audit.models.adapters import adapter_patch
from audit.models.compatibility import CONFIG_FILE, check_architecture, check_tokenizer
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import POCKET_WEIGHTS, hub_sentences, pocket_names
from audit.models.patches import DESCRIPTION_FILE, Patch, PatchSequence, WeightPatch, load_patch
from audit.models.stored_weights import PICKLES, coarsest, differences, refuse_pickles, replacements, weight_files

PLAN_FILE = "plan.json"
# Of a hub repository, only what is read here: no weights in other formats.
WANTED_FILES = ("*.json", "*.txt", "*.model", "model*.safetensors", "adapter_model.safetensors", "*deltas.safetensors")
SAFETENSORS = ".safetensors"


@dataclass(frozen=True, eq=False)
class EditedCheckpoint:
    """A checkpoint as a patch.

    `kind` says what it was, `commit` pins a hub id. `stored_as` is the coarsest dtype in a whole checkpoint's files: in
    one coarser than the base model's, weights that nobody edited differ by rounding.
    """

    source: str
    kind: str
    commit: str | None
    patch: Patch
    stored_as: torch.dtype | None = None

    @property
    def identical(self) -> bool:
        """Whether its weights are those of the base model."""
        return changes_nothing(self.patch)


def read_checkpoint(lm: LanguageModel, source: str, *, revision: str | None = None) -> Patch:
    """The patch that makes the edited model at `source` out of `lm`, the base model as it was loaded.

    The weights that it writes are the checkpoint's own bits, converted to the dtype of `lm`. A checkpoint of the same
    weights gives a patch that changes nothing.

    Args:
        source: a folder, a .safetensors file, a pocket model or a hub id.
        revision: branch, tag or commit of a hub id; None takes the default branch.

    Raises:
        AuditError: there is no such checkpoint, it cannot be read, or it is no edited version of `lm`.
    """
    return open_checkpoint(lm, source, revision=revision).patch


def open_checkpoint(lm: LanguageModel, source: str, *, revision: str | None = None) -> EditedCheckpoint:
    """`read_checkpoint`, with what the checkpoint is."""
    place, commit = _locate(source, revision)
    if place.is_file():
        return EditedCheckpoint(source, "differences", commit, _read_differences(lm, place, source))
    if (place / DESCRIPTION_FILE).is_file() or (place / PLAN_FILE).is_file():
        _check_plan(place, source)
        return EditedCheckpoint(source, "patch", commit, load_patch(place, base=weights_fingerprint(lm)))
    if (place / ADAPTER_FILE).is_file():
        return EditedCheckpoint(source, "adapter", commit, adapter_patch(lm, place, source))
    if (place / CONFIG_FILE).is_file():
        check_architecture(lm, place, source)
        check_tokenizer(lm, place, source)
        files = weight_files(place, source)
        patch = WeightPatch(replacements(lm, files, source))
        return EditedCheckpoint(source, "checkpoint", commit, patch, coarsest(files, source))
    raise AuditError(
        f"{source!r} is no checkpoint: it holds neither {CONFIG_FILE} (a model), {ADAPTER_FILE} (an adapter) nor "
        f"{DESCRIPTION_FILE} (a patch)."
    )


def changes_nothing(patch: Patch) -> bool:
    """Whether `patch` leaves every weight as it is, and attaches nothing."""
    if isinstance(patch, PatchSequence):
        return all(changes_nothing(step) for step in patch.patches)
    return isinstance(patch, WeightPatch) and not patch.deltas


def _locate(source: str, revision: str | None) -> tuple[Path, str | None]:
    """The file or folder that `source` names, and the commit of a hub id."""
    path = POCKET_WEIGHTS / source if source in pocket_names() else Path(source).expanduser()
    if path.exists():
        if revision is not None:
            raise AuditError(f"{source!r} is local and has no revision {revision!r}; leave the revision out.")
        return path, None
    if path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1 or path.suffix == SAFETENSORS:
        raise AuditError(
            f"there is no checkpoint {source!r}; name an existing folder, a .safetensors file or a hub id."
        )
    with hub_sentences(source, revision):
        folder = snapshot_download(source, revision=revision, allow_patterns=list(WANTED_FILES))
    return Path(folder), Path(folder).name  # <cache>/models--owner--name/snapshots/<commit>


def _check_plan(folder: Path, source: str) -> None:
    """AuditError unless the plan whose folder this is, if it is one, has ended in one patch."""
    if (folder / DESCRIPTION_FILE).is_file():
        return
    patches = sorted(file.parent.name for file in folder.glob(f"[0-9]*/{DESCRIPTION_FILE}"))
    if patches:
        raise AuditError(
            f"{source!r} holds {len(patches)} patches, one for each request; name one of them, such as "
            f"{source.rstrip('/')}/{patches[0]}."
        )
    raise AuditError(f"the edit plan in {source!r} is not finished; run it again with the same options.")


def _read_differences(lm: LanguageModel, file: Path, source: str) -> WeightPatch:
    refuse_pickles([file] if any(file.match(pattern) for pattern in PICKLES) else [], source)
    if file.suffix != SAFETENSORS:
        raise AuditError(f"{source!r} is no .safetensors file; name one of differences, or the folder of a checkpoint.")
    whole = [name for name in (CONFIG_FILE, ADAPTER_FILE, DESCRIPTION_FILE) if (file.parent / name).is_file()]
    if whole:
        # Adding the weights of a whole model to the base would go through, and give nonsense.
        raise AuditError(f"{source!r} belongs to a checkpoint ({whole[0]} lies beside it); name its folder.")
    return WeightPatch(differences(lm, file, source))
