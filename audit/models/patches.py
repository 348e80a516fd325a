"""Patches: changes of a model that can be applied, reverted bit for bit, saved and loaded.

    with patch.applied(lm):
        ...  # the edited model
    # the original model again, bit for bit, also after an exception

Patches are saved as safetensors and JSON, without pickle.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit.errors import AuditError
from audit.models.deltas import Delta as Delta
from audit.models.deltas import DenseDelta as DenseDelta
from audit.models.deltas import LowRankDelta as LowRankDelta
from audit.models.deltas import Replacement as Replacement
from audit.models.deltas import SparseDelta as SparseDelta
from audit.models.deltas import delta_from
from audit.models.fingerprints import content_fingerprint
from audit.models.language_model import Attachment, LanguageModel
from audit.models.originals import Originals as Originals
from audit.models.originals import originals_kept as originals_kept
from audit.models.originals import parameter_at as parameter_at
from audit.store.content import hash_tensors
from audit.store.files import read_json, require_file

FORMAT = "model-edit-audit patch 1"
DESCRIPTION_FILE = "patch.json"
TENSORS_FILE = "deltas.safetensors"
# The kinds of attachments in a saved module patch. Each class has `restored(tensors, settings)`.
ATTACHMENTS: Mapping[str, str] = {
    "codebook": "audit.models.codebook:Codebook",
    "side-memory": "audit.models.side_memory:SideMemory",
    "demonstrations": "audit.models.demonstrations:Demonstrations",
}


class Patch(Protocol):
    """A change of a model that can be applied, reverted and saved."""

    def applied(self, lm: LanguageModel) -> AbstractContextManager[None]:
        """Inside the `with`, `lm` is the edited model; after it, the original one, bit for bit."""
        ...

    def write(self, lm: LanguageModel, originals: Originals) -> None:
        """Change weights in place or attach modules, through `originals`, whose owner reverts the change."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 over everything that the patch changes, and its meta."""
        ...

    def save(self, path: Path) -> None:
        """Write the patch into the folder `path`; `load_patch` reads it."""
        ...


class _Written:
    """Base of patches that are applied by writing them."""

    def write(self, lm: LanguageModel, originals: Originals) -> None:
        raise NotImplementedError

    @contextmanager
    def applied(self, lm: LanguageModel) -> Iterator[None]:
        """Inside the `with`, `lm` is the edited model; after it, the original one, bit for bit."""
        with originals_kept(lm) as originals:
            self.write(lm, originals)
            yield


class _Stored(_Written):
    """Base of patches stored as tensors and a description."""

    def _description(self) -> dict[str, Any]:
        raise NotImplementedError

    def _tensors(self) -> dict[str, Tensor]:
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        return content_fingerprint([self._description(), hash_tensors(self._tensors().items())])

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        _write_tensors(path, self._tensors())
        _write_description(path, self._description() | {"fingerprint": self.fingerprint})


@dataclass(frozen=True, eq=False)
class WeightPatch(_Stored):
    """Changes of weights by parameter name, with the editor's notes in `meta`.

    `transposed` names the parameters that are stored as (in, out), so that a low-rank delta is transposed before it is
    added. `meta["base"]`, if present, is the weights fingerprint of the model that the patch was made for.
    """

    deltas: Mapping[str, Delta]
    transposed: frozenset[str] = frozenset()
    meta: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def write(self, lm: LanguageModel, originals: Originals) -> None:
        """Add every delta in at least float32, rounded once into the dtype of the weight; replacements are copied.

        Raises:
            AuditError: a parameter is missing or has another shape; in that case nothing is written.
        """
        for name in self.deltas:
            self._check_fit(name, parameter_at(lm.model, name))
        for name, delta in self.deltas.items():
            weight = originals.keep(name)
            with torch.no_grad():
                if isinstance(delta, Replacement):
                    weight.copy_(delta.content)
                    continue
                change = delta.change(name in self.transposed, weight.device)
                wide = torch.promote_types(torch.promote_types(weight.dtype, change.dtype), torch.float32)
                weight.copy_(weight.to(wide) + change.to(wide))

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": "weights",
            "deltas": {name: sorted(delta.parts()) for name, delta in self.deltas.items()},
            "transposed": sorted(self.transposed),
            "meta": dict(self.meta),
        }

    def _tensors(self) -> dict[str, Tensor]:
        return {f"{name}:{part}": x for name, delta in self.deltas.items() for part, x in delta.parts().items()}

    def _check_fit(self, name: str, weight: Tensor) -> None:
        shape = self.deltas[name].shape(name in self.transposed)
        if shape != tuple(weight.shape):
            raise AuditError(
                f"the patch changes {name} by a {shape} matrix, but the model has {tuple(weight.shape)}; "
                "apply it to the model that it was made for."
            )


@dataclass(frozen=True, eq=False)
class ModulePatch(_Stored):
    """Attachments for a model, with the editor's notes in `meta`; no weight changes.

    In a sequence of edits, each patch contains everything its editor has attached so far, and replaces the one before.
    """

    attachments: tuple[Attachment, ...]
    meta: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def write(self, lm: LanguageModel, originals: Originals) -> None:
        """Put every attachment on `lm`."""
        for attachment in self.attachments:
            originals.attach(attachment)

    @property
    def slots(self) -> frozenset[str]:
        """The slots of the attachments."""
        return frozenset(attachment.slot for attachment in self.attachments)

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": "modules",
            "attachments": [
                {"kind": a.kind, "tensors": sorted(a.tensors()), "settings": dict(a.settings())}
                for a in self.attachments
            ],
            "meta": dict(self.meta),
        }

    def _tensors(self) -> dict[str, Tensor]:
        return {f"{i}:{name}": x for i, a in enumerate(self.attachments) for name, x in a.tensors().items()}


@dataclass(frozen=True, eq=False)
class PatchSequence(_Written):
    """Patches applied one after another (sequential edits), each to the result of the one before."""

    patches: tuple[Patch, ...]

    def write(self, lm: LanguageModel, originals: Originals) -> None:
        """Write every patch, in order."""
        for patch in self.patches:
            patch.write(lm, originals)

    @property
    def fingerprint(self) -> str:
        """sha256 over the fingerprints of the patches, in order."""
        return content_fingerprint([FORMAT, "sequence", [patch.fingerprint for patch in self.patches]])

    def save(self, path: Path) -> None:
        """Write each patch into a numbered subfolder of `path`."""
        path.mkdir(parents=True, exist_ok=True)
        for index, patch in enumerate(self.patches):
            patch.save(path / _step_folder(index))
        description = {"format": FORMAT, "kind": "sequence", "count": len(self.patches)}
        _write_description(path, description | {"fingerprint": self.fingerprint})


def without_replaced(patches: Sequence[Patch]) -> tuple[Patch, ...]:
    """The patches of a sequence without the module patches whose slots are all taken by later ones."""
    kept: list[Patch] = []
    later: set[str] = set()
    for patch in reversed(patches):
        if isinstance(patch, ModulePatch):
            if patch.slots <= later:
                continue
            later |= patch.slots
        kept.append(patch)
    return tuple(reversed(kept))


def identity_patch() -> WeightPatch:
    """The patch that changes nothing."""
    return WeightPatch({})


def load_patch(path: Path, base: str | None = None) -> Patch:
    """Read a patch that `save` wrote.

    Args:
        path: the folder.
        base: weights fingerprint of the model to patch, compared with the one in the patch if both are given.

    Raises:
        AuditError: the folder has no patch, a damaged one, or one for another model.
    """
    try:
        description = read_json(path / DESCRIPTION_FILE)
        if description["format"] != FORMAT:
            raise AuditError(
                f"the patch in {path} has the format {description['format']!r}, not {FORMAT!r}; save it again."
            )
        patch = READERS[description["kind"]](path, description, base)
        damaged = patch.fingerprint != description["fingerprint"]
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = error.filename or TENSORS_FILE
        raise AuditError(f"{path} does not contain a complete patch ({missing} is missing); save it again.") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AuditError(f"the patch in {path} cannot be read ({reason}); save it again.") from error
    if damaged:
        raise AuditError(f"the patch in {path} was changed after it was saved: its fingerprint differs; save it again.")
    return patch


def _read_weights(path: Path, description: dict[str, Any], base: str | None) -> WeightPatch:
    _check_base(path, description, base)
    require_file(path / TENSORS_FILE)
    tensors = load_file(path / TENSORS_FILE)
    deltas: dict[str, Delta] = {}
    for name, parts in description["deltas"].items():
        deltas[name] = delta_from({part: tensors[f"{name}:{part}"] for part in parts})
    return WeightPatch(deltas, frozenset(description["transposed"]), description["meta"])


def _read_modules(path: Path, description: dict[str, Any], base: str | None) -> ModulePatch:
    _check_base(path, description, base)
    require_file(path / TENSORS_FILE)
    tensors = load_file(path / TENSORS_FILE)
    attachments = []
    for i, one in enumerate(description["attachments"]):
        module, _, kind = ATTACHMENTS[one["kind"]].partition(":")
        read = getattr(import_module(module), kind).restored
        attachments.append(read({name: tensors[f"{i}:{name}"] for name in one["tensors"]}, one["settings"]))
    return ModulePatch(tuple(attachments), description["meta"])


def _check_base(path: Path, description: dict[str, Any], base: str | None) -> None:
    made_for = description["meta"].get("base")
    if base is not None and made_for is not None and made_for != base:
        raise AuditError(
            f"the patch in {path} was made for a model with fingerprint {made_for[:12]}, not {base[:12]}; "
            "load the model that was edited."
        )


def _read_sequence(path: Path, description: dict[str, Any], base: str | None) -> PatchSequence:
    # Only the first step was made for the base model. Each later step was made for the model edited so far.
    steps = [load_patch(path / _step_folder(i), None if i else base) for i in range(description["count"])]
    return PatchSequence(tuple(steps))


READERS: Mapping[str, Callable[[Path, dict[str, Any], str | None], Patch]] = {
    "weights": _read_weights,
    "modules": _read_modules,
    "sequence": _read_sequence,
}


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # Clone each part: safetensors refuses tensors that share memory.
    save_file({name: part.detach().cpu().contiguous().clone() for name, part in tensors.items()}, path / TENSORS_FILE)


def _write_description(path: Path, description: dict[str, Any]) -> None:
    """Write the description last, so that a folder with a description is complete."""
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    (path / DESCRIPTION_FILE).write_text(text, encoding="utf-8")


def _step_folder(index: int) -> str:
    return f"{index:05d}"
