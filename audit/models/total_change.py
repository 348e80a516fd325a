"""What a patch changes in all: the sum of its deltas, parameter by parameter, however many patches stand in a row.

    totals = total_changes(lm, PatchSequence((first, second)))
    totals.deltas["transformer.h.3.mlp.c_proj.weight"]  # one delta: both steps together

The sums are those of the deltas, before any of them was rounded into a weight.
"""

from collections.abc import Iterator, Sequence
from functools import reduce

import torch

from audit.models.deltas import Delta, DenseDelta, LowRankDelta
from audit.models.language_model import LanguageModel
from audit.models.originals import parameter_at
from audit.models.patches import ModulePatch, Patch, PatchSequence, WeightPatch


def weight_patches(patch: Patch) -> tuple[WeightPatch, ...]:
    """The patches of weights that `patch` is made of, in their order; those of modules are left out."""
    if isinstance(patch, PatchSequence):
        return tuple(one for step in patch.patches for one in weight_patches(step))
    return (patch,) if isinstance(patch, WeightPatch) else ()


def attaches_modules(patch: Patch) -> bool:
    """Whether any part of `patch` is no change of weights."""
    if isinstance(patch, PatchSequence):
        return any(attaches_modules(step) for step in patch.patches)
    return isinstance(patch, ModulePatch)


def total_changes(lm: LanguageModel, patch: Patch) -> WeightPatch:
    """One delta a parameter of `lm`: low rank where its deltas are so and together of less than full rank, else dense.

    A parameter that the patches call by several names (tied weights) goes by the first. What `patch` attaches is left
    out. A parameter with one delta keeps it as it is.
    """
    found: dict[int, list[tuple[str, bool, Delta]]] = {}
    for one in weight_patches(patch):
        for name, delta in one.deltas.items():
            place = id(parameter_at(lm.model, name))
            found.setdefault(place, []).append((name, name in one.transposed, delta))
    deltas = {entries[0][0]: _sum(entries) for entries in found.values()}
    transposed = (entries[0][0] for entries in found.values() if entries[0][1])
    return WeightPatch(deltas, frozenset(transposed))


def _sum(entries: Sequence[tuple[str, bool, Delta]]) -> Delta:
    if len(entries) == 1:
        return entries[0][2]
    factors = [(turned, delta) for _, turned, delta in entries if isinstance(delta, LowRankDelta)]
    if len(factors) == len(entries) and len({turned for turned, _ in factors}) == 1:
        rank = sum(delta.left.shape[1] for _, delta in factors)
        if rank < min(factors[0][1].shape(False)):
            device = factors[0][1].left.device
            left = torch.cat([delta.left.double().to(device) for _, delta in factors], dim=1)  # (out, rank)
            right = torch.cat([delta.right.double().to(device) for _, delta in factors])  # (rank, in)
            return LowRankDelta(left, right)
    return DenseDelta(reduce(torch.Tensor.add_, _wide(entries)))


def _wide(entries: Sequence[tuple[str, bool, Delta]]) -> Iterator[torch.Tensor]:
    """Each change whole, on the CPU in float64: sums of many steps lose nothing."""
    for _, turned, delta in entries:
        change = delta.change(turned, torch.device("cpu"))
        yield change.to(torch.float64, copy=True)
