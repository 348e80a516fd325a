"""The directions that a model's keys hardly ever take: what AlphaEdit may write without disturbing the keys."""

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.errors import AuditError


@dataclass(frozen=True, eq=False)
class NullSpace:
    """`basis` U₀ (inner, free): orthonormal eigenvectors of C in float64; `total` is trace(C), `left` its part here."""

    basis: Tensor
    left: float
    total: float

    @property
    def share(self) -> float:
        """The share of key dimensions that are free."""
        return self.basis.shape[1] / self.basis.shape[0]


def null_space(moment: Tensor, layer: int, threshold: float, share: float = 0.0) -> NullSpace:
    """The eigenvectors of a second moment C (inner, inner) with eigenvalues below `threshold`.

    The threshold is absolute, so how many there are depends on the scale of the model's keys. With a `share` above 0
    it is instead that share of the key dimensions, those with the smallest eigenvalues (rounded down).

    Raises:
        AuditError: C is not finite, or no direction is free; the sentence names `layer`.
    """
    moment = moment.double()
    if not bool(torch.isfinite(moment).all()):
        raise AuditError(
            "the covariance of the keys holds values that are not finite; load the model with dtype float32."
        )
    eigenvalues, vectors = torch.linalg.eigh((moment + moment.T) / 2)  # rising
    inner = len(moment)
    free = int(share * inner) if share > 0 else int((eigenvalues < threshold).sum())
    if free == 0:
        asked = f"null_space_share {share:g}" if share > 0 else f"null_space_threshold {threshold:g}"
        raise AuditError(
            f"none of the {inner} key dimensions of layer {layer} is free to write with {asked} (the eigenvalues of C "
            f"begin at {float(eigenvalues[0]):.2g}, their median is {float(eigenvalues.median()):.2g}); give a larger "
            "one, or a null_space_share such as 0.5."
        )
    return NullSpace(vectors[:, :free].contiguous(), float(eigenvalues[:free].sum()), float(eigenvalues.sum()))
