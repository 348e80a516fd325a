"""The noise floor: the drop between two runs of the same weights, in other batches or another dtype (A/A).

Rounding can decide a greedy answer near a tie. An audit gives both models the same batches where it can; base answers
from a store, an engine with its own schedule, or another device do not allow this. A margin below the drop that such a
change can cause is refused, because the verdict would be about rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from audit.errors import AuditError
from audit.verdicts.bootstrap import as_ratios, paired_bootstrap
from audit.verdicts.intervals import (
    Codes,
    Floats,
    cluster_codes,
    cluster_sums,
    effective_clusters,
    recall_by_class_of,
    resolution,
    t_quantile,
    wilson_lower,
)

VISIBLE = 0.01  # score points; a smaller change of a likelihood is no flip


@dataclass(frozen=True)
class NoiseFloor:
    """`flips` of n scores of the same weights differ; `moved` is the drop if all do so one way, `floor` its limit.

    Both are in score points.
    """

    n: int
    flips: int
    moved: float
    floor: float
    alpha: float = 0.05


def noise_floor(
    once: Sequence[float] | Floats,
    again: Sequence[float] | Floats,
    clusters: Sequence[str] | None = None,
    alpha: float = 0.05,
    counts: tuple[ArrayLike, ArrayLike] | None = None,
    *,
    continuous: bool = False,
) -> NoiseFloor:
    """The smallest margin that is allowed, from two sets of (n,) scores of the same weights.

    The drop between two such runs is at most the mean of |once_i - again_i|, which happens if all changes go one way;
    its upper limit is Wilson's with the sum of the changes as the count (no variable in [0, 1] varies more than one
    that is 0 or 1), and never below `resolution`. Items that share a source count as one cluster that moved as a whole.

    `counts` are those of both runs for a corpus metric, (n, 3) or (n, 2 classes) as `judge` takes them. One item may
    move such a metric by more than 1 / n, so its limit is that of the bootstrap.

    `continuous`: the scores are likelihoods, which all move in their last digits. The limit is then Student's of the
    mean change, without `resolution`, and a flip is a change of at least `VISIBLE`.
    """
    first, second = np.asarray(once, dtype=np.float64), np.asarray(again, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"scores of shapes {first.shape} and {second.shape}; give the same items twice")
    n = len(first)
    if not n:
        raise AuditError("there are no scores to calibrate on; ask at least one item")
    codes = cluster_codes(clusters, n)
    count = effective_clusters(np.bincount(codes))
    if continuous:
        moves = np.abs(first - second)
        moved, error = float(moves.mean()), float(moves.std()) / max(1.0, count - 1) ** 0.5
        limit = moved + t_quantile(1 - alpha, max(1, int(count) - 1)) * error
        return NoiseFloor(n, int((moves >= VISIBLE).sum()), moved, limit, alpha)
    if counts is None:
        moves = np.abs(first - second)
        flips, moved = int((moves > 0).sum()), float(moves.mean())
        # Wilson's upper limit of a share is one minus the lower limit of the rest.
        upper = 1 - wilson_lower((1 - moved) * count, count, alpha)
    else:
        once_counts, again_counts = (np.asarray(table, dtype=np.float64) for table in counts)
        flips, moved, upper = _of_counts(once_counts, again_counts, codes, alpha)
    return NoiseFloor(n, flips, moved, max(upper, resolution(count, alpha)), alpha)


def _of_counts(first: Floats, second: Floats, codes: Codes, alpha: float) -> tuple[int, float, float]:
    """Items that changed, the drop of the corpus metric if each changed for the worse, and its upper limit."""
    one, other = as_ratios(first), as_ratios(second)  # (n, 2 ratios): numerators and denominators
    totals = (one + other).sum(axis=0) / 2
    above, below = totals[0::2], np.where(totals[1::2] > 0, totals[1::2], 1.0)
    # What an item adds to the metric with `one` rather than `other`, to first order.
    gain = ((one - other)[:, 0::2] / below - (one - other)[:, 1::2] * above / below**2).sum(axis=1)  # (n,)
    worse, better = np.where(gain[:, None] > 0, other, one), np.where(gain[:, None] > 0, one, other)
    moved = max(0.0, float(recall_by_class_of(better.sum(axis=0)) - recall_by_class_of(worse.sum(axis=0))))
    limits = paired_bootstrap(cluster_sums(better, codes), cluster_sums(worse, codes), alpha).limits
    return int((first != second).any(axis=1).sum()), moved, limits.upper
