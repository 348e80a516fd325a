"""PRUNE: bounds the singular values of the whole update by the largest of the weight (Ma et al. 2024, arXiv
2405.16821).

After all edits, ΔW = W_n − W_0 = Σ σ̂ᵢ ûᵢ v̂ᵢᵀ. Every σ̂ᵢ above σ_max(W_0) is reduced to F(σ̂ᵢ) = log_α σ̂ᵢ − log_α
σ_max + σ_max; the others are kept. The model is then W_0 plus the restrained ΔW, which replaces the patches of all
steps.
"""

import math

import torch
from torch import Tensor

from audit.editors.restraints.choice import RestraintChoice
from audit.editors.restraints.rect import refuse_modules, restrained_meta
from audit.editors.stages.solve import solving_device
from audit.models.deltas import Delta, DenseDelta, LowRankDelta
from audit.models.language_model import LanguageModel
from audit.models.originals import parameter_at
from audit.models.patch_changes import total_changes
from audit.models.patches import Patch, WeightPatch

MOST_STEPS = 300  # of Lanczos; matrices of language models need a few dozen
PRECISION = 1e-8  # relative residual of the squared singular value; its error is about the square of that


class Prune:
    """Restrains the sum of all steps, once, at the end of the edit plan."""

    def __init__(self, choice: RestraintChoice) -> None:
        self._choice = choice

    def after_edit(self, lm: LanguageModel, patch: Patch) -> Patch:
        """`patch` itself, after checking that it can be restrained later."""
        refuse_modules(self._choice, patch)
        return patch

    def after_plan(self, lm: LanguageModel, patch: Patch) -> Patch:
        """One patch for the whole plan; `patch` itself if no singular value of its sum is too large."""
        refuse_modules(self._choice, patch)
        totals = total_changes(lm, patch)
        deltas: dict[str, Delta] = {}
        restrained = False
        for name, delta in totals.deltas.items():
            weight = parameter_at(lm.model, name).detach()  # W_0: the model is unedited here
            if weight.dim() == 2:
                pruned = pruned_delta(delta, largest_singular_value(weight), self._choice.number)
            else:
                pruned = delta  # a bias has no singular values
            restrained = restrained or pruned is not delta
            deltas[name] = pruned
        return WeightPatch(deltas, totals.transposed, restrained_meta(patch, self._choice)) if restrained else patch


def pruned_delta(delta: Delta, limit: float, base: float) -> Delta:
    """`delta` with its singular values above `limit` reduced; `delta` itself if there are none, or if it is not finite.

    Low-rank deltas stay low rank: with left = Q₁R₁ and rightᵀ = Q₂R₂, the small matrix R₁R₂ᵀ has the singular values of
    the product.
    """
    if not all(bool(part.isfinite().all()) for part in delta.parts().values()):
        return delta  # reported by the check for finite weights
    if isinstance(delta, LowRankDelta):
        device = solving_device(delta.left.device)
        outer, upper = torch.linalg.qr(delta.left.to(device, torch.float64))  # (out, rank), (rank, rank)
        inner, lower = torch.linalg.qr(delta.right.to(device, torch.float64).T)  # (in, rank), (rank, rank)
        u, singular, vh = torch.linalg.svd(upper @ lower.T, full_matrices=False)
        if not bool((singular > limit).any()):
            return delta
        return LowRankDelta((outer @ u) * reduced_singular_values(singular, limit, base), vh @ inner.T)
    change = delta.change(False, torch.device("cpu")).double()  # as stored: a transpose has the same singular values
    u, singular, vh = torch.linalg.svd(change, full_matrices=False)
    if not bool((singular > limit).any()):
        return delta
    return DenseDelta((u * reduced_singular_values(singular, limit, base)) @ vh)


def reduced_singular_values(singular: Tensor, limit: float, base: float) -> Tensor:
    """F(σ̂) for each singular value above `limit` = σ_max(W_0); the others unchanged.

    If σ_max is below 1 / ln α, F is above σ̂ on an interval and would enlarge the update. Such values are kept, as are
    all values if W_0 is zero.
    """
    if limit == 0:
        return singular
    reduced = (singular.log() - math.log(limit)) / math.log(base) + limit
    return torch.where(singular > limit, torch.minimum(reduced, singular), singular)


def largest_singular_value(weight: Tensor) -> float:
    """σ_max of a matrix, by Lanczos on W Wᵀ in float64: a few products with W instead of a full SVD."""
    wide = weight.to(solving_device(weight.device), torch.float64)
    narrow = wide if wide.shape[0] <= wide.shape[1] else wide.T  # (small, large)
    small = len(narrow)
    start = torch.randn(small, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(narrow.device)
    basis = [start / start.norm()]
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    top = 0.0
    for _ in range(min(small, MOST_STEPS)):
        new = narrow @ (narrow.T @ basis[-1])  # (small,)
        diagonal.append(float(new @ basis[-1]))
        known = torch.stack(basis)  # (steps, small)
        for _ in range(2):  # twice gives orthogonality to machine precision
            new = new - known.T @ (known @ new)
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, off_diagonal))
        top, length = float(values[-1]), float(new.norm())
        if length * abs(float(vectors[-1, -1])) <= PRECISION * top:
            break
        off_diagonal.append(length)
        basis.append(new / length)
    return math.sqrt(max(top, 0.0))


def _tridiagonal(diagonal: list[float], off_diagonal: list[float]) -> Tensor:
    upper = (
        torch.diag(torch.tensor(off_diagonal, dtype=torch.float64), 1) if off_diagonal else torch.zeros(1, 1).double()
    )
    return torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + upper + upper.T
