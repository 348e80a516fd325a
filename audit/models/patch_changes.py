"""What a patch changes: the total delta of each parameter, and the lowest block that it touches.

    totals = total_changes(lm, PatchSequence((first, second)))
    totals.deltas["transformer.h.3.mlp.c_proj.weight"]  # one delta: the sum of both steps
    first_touched_block(lm, patch)  # blocks below this one compute the same as in the base model, for every text

Totals are sums in float64, before rounding into the dtype of the weights.
"""

from collections.abc import Iterator, Sequence
from functools import reduce

import torch

from audit.models.codebook import Codebook
from audit.models.deltas import Delta, DenseDelta, LowRankDelta
from audit.models.demonstrations import Demonstrations
from audit.models.files.stored_weights import same_bits
from audit.models.language_model import Attachment, LanguageModel
from audit.models.originals import originals_kept, parameter_at
from audit.models.patches import ModulePatch, Patch, PatchSequence, WeightPatch
from audit.models.side_memory import SideMemory


def weight_patches(patch: Patch) -> tuple[WeightPatch, ...]:
    """The weight patches inside `patch`, in order. Module patches are left out."""
    if isinstance(patch, PatchSequence):
        return tuple(one for step in patch.patches for one in weight_patches(step))
    return (patch,) if isinstance(patch, WeightPatch) else ()


def attaches_modules(patch: Patch) -> bool:
    """Whether any part of `patch` is a module patch."""
    if isinstance(patch, PatchSequence):
        return any(attaches_modules(step) for step in patch.patches)
    return isinstance(patch, ModulePatch)


def changes_nothing(patch: Patch) -> bool:
    """Whether `patch` changes no weight and attaches no module."""
    if isinstance(patch, PatchSequence):
        return all(changes_nothing(step) for step in patch.patches)
    return isinstance(patch, WeightPatch) and not patch.deltas


def equals_base(lm: LanguageModel, patch: Patch) -> bool:
    """Whether `lm` with `patch` is the same model as without it: no weight differs, no attachment acts.

    NaN equals itself here, and 0 equals -0, which becomes 0 when 0 is added. Changes that are lost in rounding, and
    steps that a later step undoes, do not count.
    """
    with originals_kept(lm) as originals:
        patch.write(lm, originals)
        same = all(same_bits(old, new) or torch.equal(old, new) for _, old, new in originals.touched())
        return same and not any(_acts(one.attachment) for one in lm.attached.values())


def _acts(attachment: Attachment) -> bool:
    """Whether an attachment can change an answer; True for unknown kinds."""
    match attachment:
        case Codebook():
            return bool(attachment.labels)
        case SideMemory():
            return bool(len(attachment.shards)) and attachment.threshold > 0
        case Demonstrations():
            return bool(attachment.facts)
    return True


def total_changes(lm: LanguageModel, patch: Patch) -> WeightPatch:
    """The sum of all weight deltas of `patch`, as one delta for each parameter of `lm`.

    A sum of low-rank deltas stays low rank while its rank is below the smaller side of the matrix; otherwise it is
    dense. A single delta is returned unchanged. Tied weights are listed under the name that is used first. Attached
    modules are ignored.

    Raises:
        AuditError: `lm` has no such parameter, or one of several deltas of a parameter replaces its whole content.
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
    return DenseDelta(reduce(torch.Tensor.add_, _dense(entries)))


def _dense(entries: Sequence[tuple[str, bool, Delta]]) -> Iterator[torch.Tensor]:
    """Each change as a full matrix on the CPU, in float64, so that sums over many steps lose no precision."""
    for _, turned, delta in entries:
        change = delta.change(turned, torch.device("cpu"))
        yield change.to(torch.float64, copy=True)


def first_touched_block(lm: LanguageModel, patch: Patch) -> int:
    """The lowest block that `patch` changes; `lm.anatomy.depth` if no block is changed.

    Returns 0 for anything before the blocks (embeddings, demonstrations), for weights tied to it, and for unknown
    kinds of patches and attachments.
    """
    if isinstance(patch, PatchSequence):
        return min((first_touched_block(lm, one) for one in patch.patches), default=lm.anatomy.depth)
    if isinstance(patch, ModulePatch):
        return min((_block_of_attachment(lm, one) for one in patch.attachments), default=lm.anatomy.depth)
    if isinstance(patch, WeightPatch):
        return min((_block_of_parameter(lm, name) for name in patch.deltas), default=lm.anatomy.depth)
    return 0


def _block_of_attachment(lm: LanguageModel, attachment: Attachment) -> int:
    return _block_of_name(lm, attachment.module) if isinstance(attachment, Codebook | SideMemory) else 0


def _block_of_parameter(lm: LanguageModel, name: str) -> int:
    """The lowest block that uses this weight, under any of its names."""
    weight = parameter_at(lm.model, name)
    everywhere = lm.model.named_parameters(remove_duplicate=False)
    return min(_block_of_name(lm, place) for place, parameter in everywhere if parameter is weight)


def _block_of_name(lm: LanguageModel, name: str) -> int:
    """The block of a parameter or module, by its name; the depth for final norm and head, 0 for everything else."""
    for number, block in enumerate(lm.anatomy.blocks):
        if name == block or name.startswith(f"{block}."):
            return number
    head = lm.model.get_output_embeddings()  # type: ignore[no-untyped-call]
    after = [lm.anatomy.final_norm, *(path for path, module in lm.model.named_modules() if module is head)]
    return lm.anatomy.depth if any(name == path or name.startswith(f"{path}.") for path in after) else 0
