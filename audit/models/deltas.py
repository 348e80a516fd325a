"""How a weight changes: by low-rank factors, in every entry, in a few entries, or into another weight altogether."""

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.errors import AuditError


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

    def shape(self, transposed: bool) -> tuple[int, ...]:
        """The shape of the parameter that this can change; `transposed` says that it is stored (in, out)."""
        out, inner = self.left.shape[0], self.right.shape[1]
        return (inner, out) if transposed else (out, inner)

    def change(self, transposed: bool, device: torch.device) -> Tensor:
        """The whole change, in the shape of the parameter."""
        product = self.left.to(device) @ self.right.to(device)  # (out, in)
        return product.T if transposed else product


@dataclass(frozen=True, eq=False)
class DenseDelta:
    """A change of every entry, stored as the parameter itself is stored (any shape)."""

    values: Tensor

    def parts(self) -> dict[str, Tensor]:
        return {"values": self.values}

    def shape(self, transposed: bool) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def change(self, transposed: bool, device: torch.device) -> Tensor:
        return self.values.to(device)


@dataclass(frozen=True, eq=False)
class SparseDelta:
    """A change of a few entries: `entries[i]` is added at `places[i]` of the parameter, flattened as it is stored.

    `places` are int64 and distinct; `size` is the parameter's shape as a vector of int64.
    """

    entries: Tensor
    places: Tensor
    size: Tensor

    def __post_init__(self) -> None:
        if self.entries.ndim != 1 or self.entries.shape != self.places.shape:
            raise AuditError(
                f"a sparse change has {tuple(self.entries.shape)} entries at {tuple(self.places.shape)} places; "
                "give one vector of each, of the same length."
            )

    @classmethod
    def of(cls, change: Tensor) -> "SparseDelta":
        """The entries of `change` that are not zero."""
        flat = change.flatten()
        places = flat.nonzero()[:, 0]
        return cls(flat[places], places, torch.tensor(change.shape))

    def parts(self) -> dict[str, Tensor]:
        return {"entries": self.entries, "places": self.places, "size": self.size}

    def shape(self, transposed: bool) -> tuple[int, ...]:
        return tuple(self.size.tolist())

    def change(self, transposed: bool, device: torch.device) -> Tensor:
        shape = self.shape(transposed)
        flat = torch.zeros(shape, dtype=self.entries.dtype, device=device).flatten()
        flat[self.places.to(device)] = self.entries.to(device)
        return flat.view(shape)


@dataclass(frozen=True, eq=False)
class Replacement:
    """New content in place of the old, stored as the parameter itself is stored (any shape).

    A weight that somebody else edited has to arrive bit for bit, and adding a rounded difference may miss the last bit.
    """

    content: Tensor

    def parts(self) -> dict[str, Tensor]:
        return {"content": self.content}

    def shape(self, transposed: bool) -> tuple[int, ...]:
        return tuple(self.content.shape)

    def change(self, transposed: bool, device: torch.device) -> Tensor:
        """Refused: how much is changed depends on the weight that is replaced, which a delta does not know."""
        raise AuditError(
            "a patch that replaces weights says what they become and not by how much they change, so its change can "
            "be neither summed nor restrained; use a patch of differences, such as an editor makes."
        )


Delta = LowRankDelta | DenseDelta | SparseDelta | Replacement


def delta_from(parts: dict[str, Tensor]) -> Delta:
    """The delta that has these `parts`."""
    if "values" in parts:
        return DenseDelta(**parts)
    if "content" in parts:
        return Replacement(**parts)
    return SparseDelta(**parts) if "entries" in parts else LowRankDelta(**parts)
