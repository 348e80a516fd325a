"""The noise floor: what the same weights lose against themselves, asked in other batches or another dtype (A/A).

A greedy answer near a tie can turn with the order of a sum. An audit asks its two models in the same batches where it
can, but a base read from a store, an engine that schedules by itself, or another device, does not. What such a change
can move by itself, no margin may be smaller than: the verdict would be about the arithmetic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audit.errors import AuditError
from audit.verdicts.intervals import Floats, effective_clusters, resolution, wilson_lower


@dataclass(frozen=True)
class NoiseFloor:
    """`moved` is the mean |difference| of n scores of the same weights, `floor` its upper limit; score points."""

    n: int
    flips: int
    moved: float
    floor: float
    alpha: float = 0.05

    def refusal(self, ability: str, margin: float) -> str | None:
        """The sentence that refuses a margin under the floor, or None for one that may be asked for."""
        if margin >= self.floor:
            return None
        sure = f"{100 * (1 - self.alpha):g} %"
        return (
            f"{ability}: a margin of {margin:g} is under the noise floor of {self.floor:.4f}: the same weights changed "
            f"{self.flips} of {self.n} scores against themselves ({self.moved:.4f} points; at most {self.floor:.4f} "
            f"with {sure} confidence); ask for at least that, or calibrate again on more items."
        )


def noise_floor(
    once: Sequence[float] | Floats,
    again: Sequence[float] | Floats,
    clusters: Sequence[str] | None = None,
    alpha: float = 0.05,
) -> NoiseFloor:
    """The smallest margin that may be asked for, from (n,) scores of the same weights, asked twice.

    The drop between two such runs is at most the mean of |once_i - again_i|, which happens if all changes go one way;
    its upper limit is Wilson's with the sum of the changes as the count (no variable in [0, 1] varies more than one
    that is 0 or 1), and never below `resolution`. Items that share a source count as one cluster that moved as a whole.
    """
    first, second = np.asarray(once, dtype=np.float64), np.asarray(again, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"scores of shapes {first.shape} and {second.shape}; give the same items twice")
    if not len(first):
        raise AuditError("there are no scores to calibrate on; ask at least one item")
    moves = np.abs(first - second)
    sizes = np.ones(len(first))
    if clusters is not None:
        sizes = np.unique(np.asarray(clusters, dtype=str), return_counts=True)[1].astype(np.float64)
    count, moved = effective_clusters(sizes), float(moves.mean())
    # Wilson's upper limit of a share is one minus the lower limit of the rest.
    upper = 1 - wilson_lower((1 - moved) * count, count, alpha)
    floor = max(upper, resolution(count, alpha))
    return NoiseFloor(len(first), int((moves > 0).sum()), moved, floor, alpha)
