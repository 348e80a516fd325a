"""Linear algebra of the write step, in float64: one Cholesky factor of the second moment C, used again and again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.errors import AuditError

_RIDGES = (1e-10, 1e-8, 1e-6, 1e-4)
_NO_PIVOT = 1e-10  # keys come in float32, so what is left of an equal key is about 1e-14 of it


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
    moment = moment.to(torch.float64, copy=True)
    if not bool(moment.sum().isfinite()):  # a sum is finite only if all of its terms are
        raise AuditError(
            "the covariance of the keys holds values that are not finite; load the model with dtype float32."
        )
    diagonal = moment.diagonal().clone()
    scale = float(diagonal.mean())
    for tried in (ridge, *(larger for larger in _RIDGES if larger > ridge)):
        # In place, as C is large. Cholesky reads the lower half only, so nothing needs to be symmetrised.
        moment.diagonal().copy_(diagonal + tried * scale)
        lower, failed = torch.linalg.cholesky_ex(moment)
        if int(failed) == 0:
            return Factor(lower, tried)
    raise AuditError(
        f"the covariance of {len(moment)} key dimensions is singular even with a ridge of "
        f"{max(ridge, _RIDGES[-1]):g}; measure it on more tokens (covariance_tokens)."
    )


@dataclass(frozen=True, eq=False)
class PastKeys:
    """Keys that were written earlier: as columns (inner, n) while they are no more than key dimensions, after that only
    as their moment K_p K_pᵀ (inner, inner). All in float64, so what is kept stays bounded however long a sequence is.
    """

    columns: Tensor
    moment: Tensor | None = None

    @classmethod
    def none(cls, size: int) -> "PastKeys":
        """Nothing was written yet."""
        return cls(torch.zeros(size, 0, dtype=torch.float64))

    def joined(self, keys: Tensor) -> "PastKeys":
        """These and `keys` (inner, n)."""
        keys = keys.double()
        columns = torch.cat([self.columns.to(keys.device), keys], dim=1)
        if self.moment is None and columns.shape[1] <= columns.shape[0]:
            return PastKeys(columns)
        moment = columns @ columns.T
        return PastKeys(columns[:, :0], moment if self.moment is None else self.moment.to(moment.device) + moment)


def least_squares_directions(
    factor: Factor, keys: Tensor, weight: float, past: PastKeys | None = None, *, setting: str = "covariance_weight"
) -> Tensor:
    """(weight · C + K_p K_pᵀ + K Kᵀ)⁻¹ K for keys K and earlier keys K_p: MEMIT's equation 14 without the residual.

    With G = [K_p K] the identity of Woodbury makes this the last columns of C⁻¹G (weight · I + GᵀC⁻¹G)⁻¹, a problem as
    large as there are keys; with more keys than key dimensions the inner × inner problem is the smaller one and is
    solved as it stands.

    Args:
        factor: of C.
        keys: K, (inner, n).
        weight: of C, at least 0.
        past: K_p, none by default.
        setting: what the user calls `weight`.

    Raises:
        AuditError: there is no unique solution; the sentence names `setting`.
    """
    count = keys.shape[1]
    every = (past or PastKeys.none(len(keys))).joined(keys)
    if every.moment is None:
        stacked = every.columns  # G, (inner, past + n)
        whitened = factor.solve(stacked)  # C⁻¹G
        stacked = stacked.to(whitened.device)
        eye = torch.eye(stacked.shape[1]).to(whitened)
        small = weight * eye + stacked.T @ whitened
        return whitened @ torch.cholesky_solve(eye[:, -count:].contiguous(), _positive(small, weight, setting))
    large = weight * factor.moment(len(keys), keys.device)
    keys = keys.double().to(large.device)
    return torch.cholesky_solve(keys, _positive(large + every.moment.to(large.device), weight, setting))


def _positive(matrix: Tensor, weight: float, setting: str) -> Tensor:
    lower: Tensor
    lower, failed = torch.linalg.cholesky_ex((matrix + matrix.T) / 2)
    pivots = lower.diagonal() ** 2
    # Without a weight nothing but rounding keeps equal keys apart, and rounding is not to be written.
    if int(failed) != 0 or (weight == 0 and bool(pivots.min() < _NO_PIVOT * pivots.max())):
        raise AuditError(
            f"the least squares of these requests has no unique solution with {setting} {weight:g}; "
            f"give a larger {setting}, or requests with different subjects."
        )
    return lower
