"""Linear algebra of the write step, in float64: one Cholesky factor of the second moment C, used again and again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.errors import AuditError

_RIDGES = (1e-10, 1e-8, 1e-6, 1e-4)


def solving_device(device: torch.device) -> torch.device:
    """Where float64 lives: the device itself, or the CPU for devices that have none."""
    return torch.device("cpu") if device.type == "mps" else device


@dataclass(frozen=True, eq=False)
class Factor:
    """C = L Lᵀ; `lower` is None for C = I.

    `ridge` is what had to be added to C's diagonal, relative to its mean, before it could be factorised (0 as a rule).
    """

    lower: Tensor | None
    ridge: float = 0.0

    def solve(self, columns: Tensor) -> Tensor:
        """C⁻¹ `columns`, for a vector (inner,) or columns (inner, n), in float64."""
        columns = columns.double()
        if self.lower is None:
            return columns
        columns = columns.to(self.lower.device)
        if columns.dim() == 1:
            return torch.cholesky_solve(columns[:, None], self.lower)[:, 0]
        return torch.cholesky_solve(columns, self.lower)

    def moment(self, size: int, device: torch.device) -> Tensor:
        """C itself (size, size), in float64."""
        if self.lower is None:
            return torch.eye(size, dtype=torch.float64, device=device)
        return self.lower @ self.lower.T


IDENTITY = Factor(None)


def factorize(moment: Tensor, ridge: float = 0.0) -> Factor:
    """Cholesky factor of a second moment (inner, inner), with `ridge` times its mean diagonal added to the diagonal.

    Only where C is singular in float64 even so (too few tokens were seen, or neurons never fire) is a larger ridge
    added, the smallest that does, and the factor says which.

    Raises:
        AuditError: C is not finite, or no ridge up to 1e-4 makes it positive definite.
    """
    moment = moment.double()
    if not bool(torch.isfinite(moment).all()):
        raise AuditError(
            "the covariance of the keys holds values that are not finite; load the model with dtype float32."
        )
    moment = (moment + moment.T) / 2
    scale = float(moment.diagonal().mean())
    for tried in (ridge, *(larger for larger in _RIDGES if larger > ridge)):
        shifted = moment if tried == 0 else moment + tried * scale * torch.eye(len(moment)).to(moment)
        lower, failed = torch.linalg.cholesky_ex(shifted)
        if int(failed) == 0:
            return Factor(lower, tried)
    raise AuditError(
        f"the covariance of {len(moment)} key dimensions is singular even with a ridge of "
        f"{max(ridge, _RIDGES[-1]):g}; measure it on more tokens (covariance_tokens)."
    )


def least_squares_directions(factor: Factor, keys: Tensor, weight: float) -> Tensor:
    """(weight · C + K Kᵀ)⁻¹ K for keys K (inner, n): MEMIT's equation 14 without the residual.

    By the identity of Woodbury this is C⁻¹K (weight · I + KᵀC⁻¹K)⁻¹, an n × n problem; with more requests than key
    dimensions the inner × inner problem is the smaller one and is solved as it stands.
    """
    keys = keys.double()
    if keys.shape[1] <= keys.shape[0]:
        whitened = factor.solve(keys)  # (inner, n)
        keys = keys.to(whitened.device)
        small = weight * torch.eye(keys.shape[1]).to(whitened) + keys.T @ whitened
        return torch.cholesky_solve(whitened.T, _positive(small, weight)).T
    large = weight * factor.moment(len(keys), keys.device)
    keys = keys.to(large.device)
    return torch.cholesky_solve(keys, _positive(large + keys @ keys.T, weight))


def _positive(matrix: Tensor, weight: float) -> Tensor:
    lower: Tensor
    lower, failed = torch.linalg.cholesky_ex((matrix + matrix.T) / 2)
    if int(failed) != 0:
        raise AuditError(
            f"MEMIT's least squares has no unique solution with covariance_weight {weight:g}; "
            "give a larger covariance_weight, or requests with different subjects."
        )
    return lower
