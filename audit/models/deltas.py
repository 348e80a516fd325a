"""Changes of one weight: low-rank, dense, sparse, or a replacement of its whole content."""

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.errors import AuditError


@dataclass(frozen=True, eq=False)
class LowRankDelta:
    """The change `left @ right` of a weight in (out, in) orientation, however the model stores it.

    `left` is (out, rank), `right` is (rank, in); both float32 or both float64.
    """

    left: Tensor
    right: Tensor

    def __post_init__(self) -> None:
        if self.left.ndim != 2 or self.right.ndim != 2 or self.left.shape[1] != self.right.shape[0]:
            raise AuditError(
                f"low-rank factors of shapes {tuple(self.left.shape)} and {tuple(self.right.shape)} cannot be "
                "multiplied; give (out, rank) and (rank, in)."
            )
        if self.left.dtype != self.right.dtype or self.left.dtype not in (torch.float32, torch.float64):
            raise AuditError(
                f"low-rank factors are {self.left.dtype} and {self.right.dtype}; give both in float32 or in float64."
            )

    def parts(self) -> dict[str, Tensor]:
        """The fields by name, for saving; `delta_from` reads them."""
        return {"left": self.left, "right": self.right}

    def shape(self, transposed: bool) -> tuple[int, ...]:
        """The shape of the parameter that this changes; `transposed` means that it is stored as (in, out)."""
        out, inner = self.left.shape[0], self.right.shape[1]
        return (inner, out) if transposed else (out, inner)

    def change(self, transposed: bool, device: torch.device) -> Tensor:
        """The full change, in the shape of the parameter."""
        product = self.left.to(device) @ self.right.to(device)  # (out, in)
        return product.T if transposed else product


@dataclass(frozen=True, eq=False)
class DenseDelta:
    """A change of every entry, in the shape of the stored parameter."""

    values: Tensor

    def parts(self) -> dict[str, Tensor]:
        """The field by name, for saving."""
        return {"values": self.values}

    def shape(self, transposed: bool) -> tuple[int, ...]:
        """The shape of the parameter, however it is stored."""
        return tuple(self.values.shape)

    def change(self, transposed: bool, device: torch.device) -> Tensor:
        """The change on `device`."""
        return self.values.to(device)


@dataclass(frozen=True, eq=False)
class SparseDelta:
    """A change of a few entries: `entries[i]` is added at index `places[i]` of the flattened stored parameter.

    `places` are int64 and distinct; `size` is the shape of the parameter as an int64 vector.
    """

    entries: Tensor
    places: Tensor
    size: Tensor

    def __post_init__(self) -> None:
        if self.entries.ndim != 1 or self.entries.shape != self.places.shape:
            raise AuditError(
                f"a sparse delta has entries of shape {tuple(self.entries.shape)} and places of shape "
                f"{tuple(self.places.shape)}; give two vectors of the same length."
            )

    @classmethod
    def of(cls, change: Tensor) -> "SparseDelta":
        """The nonzero entries of `change`."""
        flat = change.flatten()
        places = flat.nonzero()[:, 0]
        return cls(flat[places], places, torch.tensor(change.shape))

    def parts(self) -> dict[str, Tensor]:
        """The fields by name, for saving."""
        return {"entries": self.entries, "places": self.places, "size": self.size}

    def shape(self, transposed: bool) -> tuple[int, ...]:
        """The shape of the parameter, however it is stored."""
        return tuple(self.size.tolist())

    def change(self, transposed: bool, device: torch.device) -> Tensor:
        """The full change, in the shape of the parameter."""
        shape = self.shape(transposed)
        flat = torch.zeros(shape, dtype=self.entries.dtype, device=device).flatten()
        flat[self.places.to(device)] = self.entries.to(device)
        return flat.view(shape)


@dataclass(frozen=True, eq=False)
class Replacement:
    """New content for a parameter, in the shape in which it is stored.

    For checkpoints edited elsewhere: adding a rounded difference could miss the last bit of the edited weight.
    """

    content: Tensor

    def parts(self) -> dict[str, Tensor]:
        """The field by name, for saving."""
        return {"content": self.content}

    def shape(self, transposed: bool) -> tuple[int, ...]:
        """The shape of the parameter, however it is stored."""
        return tuple(self.content.shape)

    def change(self, transposed: bool, device: torch.device) -> Tensor:
        """Always raises `AuditError`: the change depends on the replaced weight, which a delta does not know."""
        raise AuditError(
            "a patch that replaces weights stores their new content, not the difference, so it cannot be summed or "
            "restrained; use a patch of weight differences, such as an editor returns."
        )


Delta = LowRankDelta | DenseDelta | SparseDelta | Replacement


def delta_from(parts: dict[str, Tensor]) -> Delta:
    """Rebuild a delta from the tensors that its `parts()` returned."""
    if "values" in parts:
        return DenseDelta(**parts)
    if "content" in parts:
        return Replacement(**parts)
    return SparseDelta(**parts) if "entries" in parts else LowRankDelta(**parts)
