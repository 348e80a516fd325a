"""RECT: keep only the entries of an update with the largest relative change of the weight; and a random control.

Relative change in weight (Gu et al. 2024, arXiv 2401.04700, section 6): entry ij of an update ΔW has the score δ_ij =
|ΔW_ij / W_ij|. The share of entries with the largest scores is kept, all others are set to zero.
"""

import hashlib
import json

import torch
from torch import Tensor

from audit.editors.restraints.choice import RestraintChoice
from audit.errors import AuditError
from audit.models.deltas import Delta, SparseDelta
from audit.models.language_model import LanguageModel
from audit.models.originals import parameter_at
from audit.models.patch_changes import attaches_modules, total_changes, weight_patches
from audit.models.patches import Patch, WeightPatch


class _ShareRestraint:
    """Keeps a share of the entries of each changed matrix, edit by edit, and sets the others to zero."""

    def __init__(self, choice: RestraintChoice) -> None:
        self._choice = choice

    def after_edit(self, lm: LanguageModel, patch: Patch) -> Patch:
        """`patch` with only the kept entries, unchanged; a share of 1 returns `patch` itself."""
        refuse_modules(self._choice, patch)
        if self._choice.number == 1:
            return patch
        totals = total_changes(lm, patch)
        deltas: dict[str, Delta] = {}
        for name, delta in totals.deltas.items():
            weight = parameter_at(lm.model, name).detach()
            change = delta.change(name in totals.transposed, weight.device)  # as the weight itself is stored
            count = kept_count(self._choice.number, change.numel())
            places = self._places(weight, change, count, f"{patch.fingerprint} {name}")
            deltas[name] = SparseDelta(change.flatten()[places], places, torch.tensor(change.shape))
        return WeightPatch(deltas, totals.transposed, restrained_meta(patch, self._choice))

    def after_plan(self, lm: LanguageModel, patch: Patch) -> Patch:
        """`patch` itself: every edit was restrained already."""
        return patch

    def _places(self, weight: Tensor, change: Tensor, count: int, draw_key: str) -> Tensor:
        """Indices of the `count` kept entries in the flattened parameter, in ascending order."""
        raise NotImplementedError


class Rect(_ShareRestraint):
    """Keeps the entries of largest change relative to the current weight."""

    def _places(self, weight: Tensor, change: Tensor, count: int, draw_key: str) -> Tensor:
        return largest(relative_entry_changes(change, weight).flatten(), count)


class RandomShare(_ShareRestraint):
    """The control of RECT: keeps the same number of entries, drawn at random for each edit and matrix."""

    def __init__(self, choice: RestraintChoice, seed: int) -> None:
        super().__init__(choice)
        self._seed = seed

    def _places(self, weight: Tensor, change: Tensor, count: int, draw_key: str) -> Tensor:
        # Seeded by the patch and the matrix instead of a counter, so that a resumed plan draws the same entries.
        digest = hashlib.sha256(json.dumps([self._seed, draw_key]).encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        drawn = torch.randperm(change.numel(), generator=generator)[:count]
        return drawn.sort().values.to(weight.device)


def kept_count(share: float, entries: int) -> int:
    """The number of `entries` to keep: the rounded share, at least one."""
    return min(entries, max(1, round(share * entries)))


def relative_entry_changes(change: Tensor, weight: Tensor) -> Tensor:
    """δ = |ΔW / W|, entry by entry, in at least float32.

    A change of a zero weight is infinite, and zero if the weight does not change. A NaN change counts as infinite, so
    that a broken edit stays visible.
    """
    wide = torch.promote_types(torch.promote_types(change.dtype, weight.dtype), torch.float32)
    size = change.to(wide).abs()
    scores = size / weight.to(wide).abs()
    return torch.where(size == 0, 0.0, scores).nan_to_num(nan=torch.inf, posinf=torch.inf)


def largest(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest scores of a vector, in ascending order; of equal ones the first are kept."""
    least = scores.kthvalue(len(scores) - count + 1).values
    above = scores > least
    equal = (scores == least).nonzero()[: count - int(above.sum()), 0]
    return torch.cat([above.nonzero()[:, 0], equal]).sort().values


def refuse_modules(choice: RestraintChoice, patch: Patch) -> None:
    """Raise `AuditError` if `patch` attaches modules."""
    if attaches_modules(patch):
        raise AuditError(
            f"--restraint {choice} needs changes of weights, but this editor attaches modules; "
            "leave it out, or choose an editor that changes weights, such as memit."
        )


def restrained_meta(patch: Patch, choice: RestraintChoice) -> dict[str, str]:
    """The meta of a restrained patch: that of its first part, and the restraint."""
    parts = weight_patches(patch)
    return {**(parts[0].meta if parts else {}), "restraint": str(choice)}
