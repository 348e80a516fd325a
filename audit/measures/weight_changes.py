"""How a weight's change is spread over its entries (Gu et al. 2024: few large relative changes, growing in number).

with originals_kept(lm) as originals:
    patch.write(lm, originals)
    entry_shares(originals)  # {0.1: 0.31, ...}: 31 % of the entries changed by more than a tenth of themselves
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from audit.models.originals import Originals

THRESHOLDS = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)


def entry_shares(originals: Originals, thresholds: Sequence[float] = THRESHOLDS) -> Mapping[float, float]:
    """For each threshold the share of entries of all touched tensors with |ΔW| > threshold · |W|.

    An entry that was zero and is not any more has changed by more than any threshold. Nothing touched gives zeros.
    """
    return changed_shares([(original, current) for _, original, current in originals.touched()], thresholds)


def changed_shares(
    tensors: Sequence[tuple[Tensor, Tensor]], thresholds: Sequence[float] = THRESHOLDS
) -> Mapping[float, float]:
    """`entry_shares` of tensors as they were and as they are."""
    over = dict.fromkeys(thresholds, 0)
    entries = 0
    for original, current in tensors:
        wide = torch.promote_types(original.dtype, torch.float32)
        size = original.to(wide).abs()
        change = (current.to(wide) - original.to(wide)).abs()
        for threshold in thresholds:
            # Not "≤": an entry that became NaN has changed.
            over[threshold] += int((~(change <= threshold * size)).sum())
        entries += original.numel()
    return {threshold: count / entries if entries else 0.0 for threshold, count in over.items()}
