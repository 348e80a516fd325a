"""The write step in float64: the Cholesky factor of C, ROME's rank-one update and MEMIT's least squares.

C = E[kkᵀ] is the uncentered second moment of the keys (see `covariance`). It is factorized once and reused.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.errors import AuditError
from audit.models.deltas import LowRankDelta

_RIDGES = (1e-10, 1e-8, 1e-6, 1e-4)
_NO_PIVOT = 1e-10  # keys are float32, so the pivot of a repeated key is about 1e-14 of the largest


def solving_device(device: torch.device) -> torch.device:
    """The device for float64 tensors: the device itself, or the CPU if it has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


@dataclass(frozen=True, eq=False)
class Factor:
    """C = L Lᵀ with the lower triangle `lower` (inner, inner), or C = I if `lower` is None.

    `ridge` times the mean of C's diagonal was added to the diagonal.
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
        """C itself, (size, size) in float64."""
        if self.lower is None:
            return torch.eye(size, dtype=torch.float64, device=device)
        return self.lower @ self.lower.T


IDENTITY = Factor(None)


def factorize(moment: Tensor, ridge: float = 0.0) -> Factor:
    """Cholesky factor of a second moment (inner, inner), with `ridge` times its mean diagonal added to the diagonal.

    If C is still singular in float64 (too few tokens, or neurons that never fire), the smallest larger ridge that
    works is added instead.

    Raises:
        AuditError: C is not finite, or no ridge up to 1e-4 makes it positive definite.
    """
    moment = moment.to(torch.float64, copy=True)
    if not bool(moment.sum().isfinite()):  # a sum is finite only if all of its terms are
        raise AuditError(
            "the covariance of the keys holds values that are not finite; load the model with dtype float32."
        )
    diagonal = moment.diagonal().clone()  # (inner,)
    scale = float(diagonal.mean())
    for candidate in (ridge, *(larger for larger in _RIDGES if larger > ridge)):
        # In place, because C is large. Cholesky reads the lower half only, so C need not be made symmetric.
        moment.diagonal().copy_(diagonal + candidate * scale)
        lower, failed = torch.linalg.cholesky_ex(moment)
        if int(failed) == 0:
            return Factor(lower, candidate)
    raise AuditError(
        f"the covariance of {len(moment)} key dimensions is singular even with a ridge of "
        f"{max(ridge, _RIDGES[-1]):g}; measure it on more tokens (covariance_tokens)."
    )


def rank_one_update(factor: Factor, direction_key: Tensor, key: Tensor, output: Tensor, value: Tensor) -> LowRankDelta:
    """ROME's update, equation 2: ΔW = Λ (C⁻¹k)ᵀ with Λ = (v* − W k₀) / ((C⁻¹k)ᵀ k₀), so that (W + ΔW) k₀ = v*.

    The update is not finite if k₀ is orthogonal to C⁻¹k.

    Args:
        factor: of C.
        direction_key: k, (inner,).
        key: k₀, (inner,); the equation in the paper has k₀ = k.
        output: W k₀, (hidden,).
        value: v*, (hidden,).
    """
    direction = factor.solve(direction_key)  # C⁻¹k, (inner,)
    left = direction / direction.norm()  # u, (inner,); its norm cancels in ΔW
    overlap = key.double().to(left.device) @ left  # uᵀk₀, a scalar
    residual = value.double().to(left.device) - output.double().to(left.device)  # v* − W k₀, (hidden,)
    return LowRankDelta((residual / overlap)[:, None], left[None, :])  # (hidden, 1) @ (1, inner)


@dataclass(frozen=True, eq=False)
class PastKeys:
    """Keys K_p of earlier steps of a sequence, in float64.

    `columns` (inner, n) holds them while there are at most `inner` of them; with more, `moment` holds K_p K_pᵀ (inner,
    inner) instead. So the memory is bounded for any number of steps.
    """

    columns: Tensor
    moment: Tensor | None = None

    @classmethod
    def none(cls, size: int) -> "PastKeys":
        """No keys of `size` dimensions."""
        return cls(torch.zeros(size, 0, dtype=torch.float64))

    def joined(self, keys: Tensor) -> "PastKeys":
        """The past keys with `keys` (inner, n) added."""
        keys = keys.double()
        columns = torch.cat([self.columns.to(keys.device), keys], dim=1)  # (inner, past + n)
        if self.moment is None and columns.shape[1] <= columns.shape[0]:
            return PastKeys(columns)
        moment = columns @ columns.T  # (inner, inner)
        return PastKeys(columns[:, :0], moment if self.moment is None else self.moment.to(moment.device) + moment)


def least_squares_directions(
    factor: Factor, keys: Tensor, weight: float, past: PastKeys | None = None, *, setting: str = "covariance_weight"
) -> Tensor:
    """D = (λC + K_p K_pᵀ + K Kᵀ)⁻¹ K, MEMIT's equation 14 without the residual: the update is ΔW = R Dᵀ.

    By Woodbury's identity with G = [K_p K], D is the last n columns of C⁻¹G (λI + GᵀC⁻¹G)⁻¹: a system as large as the
    number of keys. With more keys than key dimensions the system above is smaller and is solved directly.

    Args:
        factor: of C.
        keys: K, (inner, n).
        weight: λ, at least 0.
        past: K_p, the keys of earlier steps; None for none.
        setting: the name of the user's setting for `weight`, for the error.

    Returns:
        (inner, n) in float64.

    Raises:
        AuditError: the solution is not unique.
    """
    count = keys.shape[1]
    every = (past or PastKeys.none(len(keys))).joined(keys)
    if every.moment is None:
        stacked = every.columns  # G, (inner, past + n)
        whitened = factor.solve(stacked)  # C⁻¹G, (inner, past + n)
        stacked = stacked.to(whitened.device)
        eye = torch.eye(stacked.shape[1]).to(whitened)
        small = weight * eye + stacked.T @ whitened  # (past + n, past + n)
        return whitened @ torch.cholesky_solve(eye[:, -count:].contiguous(), _cholesky(small, weight, setting))
    large = weight * factor.moment(len(keys), keys.device)  # λC, (inner, inner)
    keys = keys.double().to(large.device)
    return torch.cholesky_solve(keys, _cholesky(large + every.moment.to(large.device), weight, setting))


def _cholesky(matrix: Tensor, weight: float, setting: str) -> Tensor:
    lower: Tensor
    lower, failed = torch.linalg.cholesky_ex((matrix + matrix.T) / 2)
    pivots = lower.diagonal() ** 2
    # With λ = 0, repeated keys differ by rounding only, and the solution would amplify the rounding.
    if int(failed) != 0 or (weight == 0 and bool(pivots.min() < _NO_PIVOT * pivots.max())):
        raise AuditError(
            f"the least squares of these requests has no unique solution with {setting} {weight:g}; "
            f"give a larger {setting}, or requests with different subjects."
        )
    return lower
