"""RECT: keep only the entries of an update that change the weight most in relation to itself; and its random control.

Relative change in weight (Gu et al. 2024, arXiv 2401.04700, section 6): entry ij of an update ΔW is scored by
δ_ij = |ΔW_ij / W_ij|; the share of entries with the largest scores stays, all others become zero.
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


class _KeepsAShare:
    """A restraint that keeps a share of each touched matrix's entries, edit by edit, and sets the others to zero."""

    def __init__(self, choice: RestraintChoice) -> None:
        self._choice = choice

    def after_edit(self, lm: LanguageModel, patch: Patch) -> Patch:
        """`patch` with the kept entries only, unchanged; a share of 1 hands `patch` back as it is."""
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
        return WeightPatch(deltas, totals.transposed, told(patch, self._choice))

    def after_plan(self, lm: LanguageModel, patch: Patch) -> Patch:
        """`patch` as it is: every edit was restrained by itself."""
        return patch

    def _places(self, weight: Tensor, change: Tensor, count: int, occasion: str) -> Tensor:
        """Which `count` entries stay, in ascending order, as places in the flattened parameter."""
        raise NotImplementedError


class Rect(_KeepsAShare):
    """Keeps the entries of largest relative change, against the weight as it is at that moment."""

    def _places(self, weight: Tensor, change: Tensor, count: int, occasion: str) -> Tensor:
        return largest(relative_change(change, weight).flatten(), count)


class RandomShare(_KeepsAShare):
    """The control of RECT: as many entries, drawn at random, anew for each edit and matrix."""

    def __init__(self, choice: RestraintChoice, seed: int) -> None:
        super().__init__(choice)
        self._seed = seed

    def _places(self, weight: Tensor, change: Tensor, count: int, occasion: str) -> Tensor:
        # From what is drawn for, not from a counter: a plan that goes on after an interruption draws the same.
        digest = hashlib.sha256(json.dumps([self._seed, occasion]).encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        drawn = torch.randperm(change.numel(), generator=generator)[:count]
        return drawn.sort().values.to(weight.device)


def kept_count(share: float, entries: int) -> int:
    """How many of `entries` stay: the share rounded to the nearest, and one at least."""
    return min(entries, max(1, round(share * entries)))


def relative_change(change: Tensor, weight: Tensor) -> Tensor:
    """δ = |ΔW / W|, entry by entry, in float32 at least.

    A change of a weight that is zero is infinitely large, no change of it none at all; a change that is not a number
    counts as infinite, so that a broken edit stays one.
    """
    wide = torch.promote_types(torch.promote_types(change.dtype, weight.dtype), torch.float32)
    size = change.to(wide).abs()
    scores = size / weight.to(wide).abs()
    return torch.where(size == 0, 0.0, scores).nan_to_num(nan=torch.inf, posinf=torch.inf)


def largest(scores: Tensor, count: int) -> Tensor:
    """The places of the `count` largest of a vector of scores, in ascending order; of equal ones the first stay."""
    least = scores.kthvalue(len(scores) - count + 1).values
    above = scores > least
    equal = (scores == least).nonzero()[: count - int(above.sum()), 0]
    return torch.cat([above.nonzero()[:, 0], equal]).sort().values


def refuse_modules(choice: RestraintChoice, patch: Patch) -> None:
    """AuditError unless `patch` changes weights only."""
    if attaches_modules(patch):
        raise AuditError(
            f"--restraint {choice} holds changes of weights back, and this editor attaches modules instead of changing "
            "weights; leave it out, or choose an editor that changes weights, such as memit."
        )


def told(patch: Patch, choice: RestraintChoice) -> dict[str, str]:
    """What the restrained patch tells: what its first part told, and the restraint."""
    parts = weight_patches(patch)
    return {**(parts[0].meta if parts else {}), "restraint": str(choice)}
