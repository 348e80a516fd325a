"""What an editor hands back: changes to weights that can be applied and taken back bit for bit.

    with patch.applied(lm):
        ...  # the edited model
    # the model as it was, bit for bit, whatever happened inside

Originals of the touched tensors are kept and copied back; subtracting a delta again would leave rounding behind.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from audit.errors import AuditError
from audit.models.fingerprints import content_fingerprint
from audit.models.language_model import LanguageModel
from audit.store import hash_tensors

FORMAT = "model-edit-audit patch 1"
DESCRIPTION_FILE = "patch.json"
TENSORS_FILE = "deltas.safetensors"


@dataclass(frozen=True, eq=False)
class LowRankDelta:
    """The change `left @ right` of a weight seen as (out, in), however the model stores it.

    `left` is (out, rank), `right` is (rank, in); both float32 or both float64.
    """

    left: Tensor
    right: Tensor

    def __post_init__(self) -> None:
        if self.left.ndim != 2 or self.right.ndim != 2 or self.left.shape[1] != self.right.shape[0]:
            raise AuditError(
                f"low-rank factors of shapes {tuple(self.left.shape)} and {tuple(self.right.shape)} do not multiply; "
                "give (out, rank) and (rank, in)."
            )
        if self.left.dtype != self.right.dtype or self.left.dtype not in (torch.float32, torch.float64):
            raise AuditError(
                f"low-rank factors are {self.left.dtype} and {self.right.dtype}; give both in float32 or in float64."
            )

    def parts(self) -> dict[str, Tensor]:
        return {"left": self.left, "right": self.right}


@dataclass(frozen=True, eq=False)
class DenseDelta:
    """A change of every entry, stored as the parameter itself is stored (any shape)."""

    values: Tensor

    def parts(self) -> dict[str, Tensor]:
        return {"values": self.values}


Delta = LowRankDelta | DenseDelta


class Originals:
    """The tensors of a model as they were before their first change.

    `keep(name)` must be called before a parameter is written; it clones the tensor on the first call for that tensor
    only, so the memory spent is that of what was touched. Tied parameters are one tensor.
    """

    def __init__(self, lm: LanguageModel) -> None:
        self._model = lm.model
        self._kept: dict[int, _Kept] = {}

    def keep(self, name: str) -> nn.Parameter:
        """Remember parameter `name` and return it, ready to be written in place.

        Raises:
            AuditError: the model has no such parameter.
        """
        parameter = parameter_at(self._model, name)
        if id(parameter) not in self._kept:
            clone = parameter.detach().clone()
            self._kept[id(parameter)] = _Kept(name, parameter, clone, hash_tensors([(name, clone)]))
        return parameter

    def touched(self) -> tuple[tuple[str, Tensor, Tensor], ...]:
        """(name, original, current) of every kept tensor; the current one is the model's own, not a copy."""
        return tuple((kept.name, kept.clone, kept.parameter.detach()) for kept in self._kept.values())

    def restore(self) -> None:
        """Copy every kept tensor back and check that the model now holds it, bit for bit.

        Raises:
            AuditError: a parameter was replaced by another object instead of being written in place.
        """
        # Last kept first: should two tensors share memory, the older content lands last.
        for kept in reversed(self._kept.values()):
            with torch.no_grad():
                kept.parameter.copy_(kept.clone)
        for kept in self._kept.values():
            now = parameter_at(self._model, kept.name)
            if hash_tensors([(kept.name, now)]) != kept.fingerprint:
                raise AuditError(
                    f"{kept.name} is not what it was before the patch, because it was replaced by another tensor; "
                    "mend the patch so that it writes weights in place."
                )
        self._kept.clear()


@contextmanager
def originals_kept(lm: LanguageModel) -> Iterator[Originals]:
    """Everything written through the yielded `Originals` is undone on the way out, exceptions or not."""
    originals = Originals(lm)
    try:
        yield originals
    finally:
        originals.restore()


class Patch(Protocol):
    """A change of a model that can be applied, taken back and saved."""

    def applied(self, lm: LanguageModel) -> AbstractContextManager[None]:
        """The edited model inside the `with`, the original one after it, bit for bit."""
        ...

    def write(self, lm: LanguageModel, originals: Originals) -> None:
        """Change the weights in place; whoever holds `originals` undoes it."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 over everything that the patch changes and says."""
        ...

    def save(self, path: Path) -> None:
        """Write the patch into the folder `path`, for `load_patch`."""
        ...


@dataclass(frozen=True, eq=False)
class WeightPatch:
    """Changes of weights by parameter name, and whatever the editor wishes to tell about them.

    `transposed` names the parameters that are stored (in, out), so that a low-rank delta is turned before it is added.
    `meta["base"]`, where given, is the weights' fingerprint of the model that the patch was made for.
    """

    deltas: Mapping[str, Delta]
    transposed: frozenset[str] = frozenset()
    meta: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @contextmanager
    def applied(self, lm: LanguageModel) -> Iterator[None]:
        with originals_kept(lm) as originals:
            self.write(lm, originals)
            yield

    def write(self, lm: LanguageModel, originals: Originals) -> None:
        """Add every delta; in float32 at least, rounded once into the weight's dtype.

        Raises:
            AuditError: the model has no such parameter, or its shape differs; nothing is written then.
        """
        for name in self.deltas:
            self._check_fit(name, parameter_at(lm.model, name))
        for name, delta in self.deltas.items():
            weight = originals.keep(name)
            with torch.no_grad():
                change = self._oriented(name, delta, weight.device)
                wide = torch.promote_types(torch.promote_types(weight.dtype, change.dtype), torch.float32)
                weight.copy_(weight.to(wide) + change.to(wide))

    @property
    def fingerprint(self) -> str:
        return content_fingerprint([self._description(), hash_tensors(self._tensors().items())])

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        # A clone of its own for each part: safetensors refuses tensors that share memory.
        owned = {name: part.detach().cpu().contiguous().clone() for name, part in self._tensors().items()}
        save_file(owned, path / TENSORS_FILE)
        _write_description(path, self._description() | {"fingerprint": self.fingerprint})

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

    def _oriented(self, name: str, delta: Delta, device: torch.device) -> Tensor:
        """The change as a tensor of the parameter's own shape."""
        if isinstance(delta, DenseDelta):
            return delta.values.to(device)
        product = delta.left.to(device) @ delta.right.to(device)  # (out, in)
        return product.T if name in self.transposed else product

    def _check_fit(self, name: str, weight: Tensor) -> None:
        delta = self.deltas[name]
        if isinstance(delta, DenseDelta):
            shape = tuple(delta.values.shape)
        else:
            shape = (delta.left.shape[0], delta.right.shape[1])
            shape = shape[::-1] if name in self.transposed else shape
        if shape != tuple(weight.shape):
            raise AuditError(
                f"the patch changes {name} by a {shape} matrix where the model has {tuple(weight.shape)}; "
                "apply it to the model that it was made for."
            )


@dataclass(frozen=True, eq=False)
class PatchSequence:
    """Patches one after another (sequential edits): bit-identical to having applied each in its turn."""

    patches: tuple[Patch, ...]

    @contextmanager
    def applied(self, lm: LanguageModel) -> Iterator[None]:
        with originals_kept(lm) as originals:
            self.write(lm, originals)
            yield

    def write(self, lm: LanguageModel, originals: Originals) -> None:
        for patch in self.patches:
            patch.write(lm, originals)

    @property
    def fingerprint(self) -> str:
        return content_fingerprint([FORMAT, "sequence", [patch.fingerprint for patch in self.patches]])

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        for index, patch in enumerate(self.patches):
            patch.save(path / _step_folder(index))
        description = {"format": FORMAT, "kind": "sequence", "count": len(self.patches)}
        _write_description(path, description | {"fingerprint": self.fingerprint})


def identity_patch() -> WeightPatch:
    """The patch that changes nothing."""
    return WeightPatch({})


def load_patch(path: Path, base: str | None = None) -> Patch:
    """Read a patch that `save` wrote.

    Args:
        path: the folder.
        base: the weights' fingerprint of the model it is meant for; checked against the one the patch was made for,
            if the patch says.

    Raises:
        AuditError: the folder holds no patch, a spoilt one, or one for another model.
    """
    try:
        description = json.loads((path / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        if description["format"] != FORMAT:
            raise AuditError(
                f"the patch in {path} has the format {description['format']!r}, not {FORMAT!r}; save it again."
            )
        patch = READERS[description["kind"]](path, description, base)
        spoilt = patch.fingerprint != description["fingerprint"]
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = error.filename or TENSORS_FILE
        raise AuditError(f"{path} holds no complete patch ({missing} is missing); save it again.") from None
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditError(f"the patch in {path} cannot be read ({error}); save it again.") from error
    if spoilt:
        raise AuditError(f"the patch in {path} is not what was saved: its fingerprint differs; save it again.")
    return patch


def parameter_at(model: nn.Module, name: str) -> nn.Parameter:
    """The parameter called `name` (tied ones under each of their names); AuditError when the model has none."""
    try:
        return model.get_parameter(name)
    except AttributeError:
        raise AuditError(
            f"the model has no parameter {name!r}; apply the patch to the model that it was made for."
        ) from None


@dataclass(frozen=True, eq=False)
class _Kept:
    name: str
    parameter: nn.Parameter
    clone: Tensor
    fingerprint: str


def _read_weights(path: Path, description: dict[str, Any], base: str | None) -> WeightPatch:
    made_for = description["meta"].get("base")
    if base is not None and made_for is not None and made_for != base:
        raise AuditError(
            f"the patch in {path} was made for a model with fingerprint {made_for[:12]}, not {base[:12]}; "
            "load the model that was edited."
        )
    tensors = load_file(path / TENSORS_FILE)
    deltas: dict[str, Delta] = {}
    for name, parts in description["deltas"].items():
        found = {part: tensors[f"{name}:{part}"] for part in parts}
        deltas[name] = DenseDelta(**found) if "values" in found else LowRankDelta(**found)
    return WeightPatch(deltas, frozenset(description["transposed"]), description["meta"])


def _read_sequence(path: Path, description: dict[str, Any], base: str | None) -> PatchSequence:
    # Only the first step was made for the base model; each later one for the model that the earlier steps left.
    steps = [load_patch(path / _step_folder(i), None if i else base) for i in range(description["count"])]
    return PatchSequence(tuple(steps))


READERS: Mapping[str, Callable[[Path, dict[str, Any], str | None], Patch]] = {
    "weights": _read_weights,
    "sequence": _read_sequence,
}


def _write_description(path: Path, description: dict[str, Any]) -> None:
    """The description is written last, so a folder that has one has everything."""
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    (path / DESCRIPTION_FILE).write_text(text, encoding="utf-8")


def _step_folder(index: int) -> str:
    return f"{index:05d}"
