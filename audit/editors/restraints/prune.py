"""PRUNE: no singular value of the whole update much above the largest of the weight (Ma et al. 2024, arXiv 2405.16821).

After all edits, ΔW = W_n − W_0 = Σ σ̂ᵢ ûᵢ v̂ᵢᵀ. Every σ̂ᵢ above σ_max(W_0) is brought down to
F(σ̂ᵢ) = log_α σ̂ᵢ − log_α σ_max + σ_max; the others stay. The model is then W_0 and the restrained ΔW, which takes the
place of all that the steps wrote.
"""

import math

import torch
from torch import Tensor

from audit.editors.restraints.choice import RestraintChoice
from audit.editors.restraints.rect import refuse_modules, told
from audit.editors.stages.solve import solving_device
from audit.models.deltas import Delta, DenseDelta, LowRankDelta
from audit.models.language_model import LanguageModel
from audit.models.originals import parameter_at
from audit.models.patch_changes import total_changes
from audit.models.patches import Patch, WeightPatch

MOST_STEPS = 300  # of Lanczos; a few dozen do for the matrices of language models
PRECISION = 1e-8  # residual of the squared singular value, relative; its own error is about the square of that


class Prune:
    """Restrains the sum of all steps, once, at the end of the plan."""

    def __init__(self, choice: RestraintChoice) -> None:
        self._choice = choice

    def after_edit(self, lm: LanguageModel, patch: Patch) -> Patch:
        """`patch` as it is; only that it can be restrained later on is made sure of."""
        refuse_modules(self._choice, patch)
        return patch

    def after_plan(self, lm: LanguageModel, patch: Patch) -> Patch:
        """One patch for the whole plan; `patch` itself where no singular value of its sum is too large."""
        refuse_modules(self._choice, patch)
        totals = total_changes(lm, patch)
        deltas: dict[str, Delta] = {}
        restrained = False
        for name, delta in totals.deltas.items():
            weight = parameter_at(lm.model, name).detach()  # W_0: the model is as it was before the first step
            if weight.dim() == 2:
                pruned = pruned_delta(delta, largest_singular_value(weight), self._choice.number)
            else:
                pruned = delta  # a bias has no singular values
            restrained = restrained or pruned is not delta
            deltas[name] = pruned
        return WeightPatch(deltas, totals.transposed, told(patch, self._choice)) if restrained else patch


def pruned_delta(delta: Delta, limit: float, base: float) -> Delta:
    """`delta` with its singular values above `limit` brought down; `delta` itself where there are none, or none finite.

    Low-rank deltas go through their factors and stay low rank: with left = Q₁R₁ and rightᵀ = Q₂R₂, the small matrix
    R₁R₂ᵀ has the singular values of the whole.
    """
    if not all(bool(part.isfinite().all()) for part in delta.parts().values()):
        return delta  # nothing mends that; the check of finite weights reports it
    if isinstance(delta, LowRankDelta):
        device = solving_device(delta.left.device)
        outer, upper = torch.linalg.qr(delta.left.to(device, torch.float64))  # (out, rank), (rank, rank)
        inner, lower = torch.linalg.qr(delta.right.to(device, torch.float64).T)  # (in, rank), (rank, rank)
        u, singular, vh = torch.linalg.svd(upper @ lower.T, full_matrices=False)
        if not bool((singular > limit).any()):
            return delta
        return LowRankDelta((outer @ u) * brought_down(singular, limit, base), vh @ inner.T)
    change = delta.change(False, torch.device("cpu")).double()  # as it is stored: turning it changes no singular value
    u, singular, vh = torch.linalg.svd(change, full_matrices=False)
    if not bool((singular > limit).any()):
        return delta
    return DenseDelta((u * brought_down(singular, limit, base)) @ vh)


def brought_down(singular: Tensor, limit: float, base: float) -> Tensor:
    """F(σ̂) of each singular value above `limit` = σ_max(W_0), and the others as they are.

    Where σ_max is below 1 / ln α, F lies above σ̂ for a while: it would push the update up. Such values stay, and so
    does every value where W_0 is zero.
    """
    if limit == 0:
        return singular
    reduced = (singular.log() - math.log(limit)) / math.log(base) + limit
    return torch.where(singular > limit, torch.minimum(reduced, singular), singular)


def largest_singular_value(weight: Tensor) -> float:
    """σ_max of a matrix, by Lanczos on W Wᵀ in float64: a few products with W instead of all its singular values."""
    wide = weight.to(solving_device(weight.device), torch.float64)
    narrow = wide if wide.shape[0] <= wide.shape[1] else wide.T  # (small, large)
    small = len(narrow)
    start = torch.randn(small, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(narrow.device)
    basis = [start / start.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    top = 0.0
    for _ in range(min(small, MOST_STEPS)):
        new = narrow @ (narrow.T @ basis[-1])  # (small,)
        diagonal.append(float(new @ basis[-1]))
        known = torch.stack(basis)  # (steps, small)
        for _ in range(2):  # twice is enough for orthogonality to the last bit
            new = new - known.T @ (known @ new)
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, beside))
        top, length = float(values[-1]), float(new.norm())
        if length * abs(float(vectors[-1, -1])) <= PRECISION * top:
            break
        beside.append(length)
        basis.append(new / length)
    return math.sqrt(max(top, 0.0))


def _tridiagonal(diagonal: list[float], beside: list[float]) -> Tensor:
    upper = torch.diag(torch.tensor(beside, dtype=torch.float64), 1) if beside else torch.zeros(1, 1).double()
    return torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + upper + upper.T
