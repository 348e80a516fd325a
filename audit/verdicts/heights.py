"""Limits of heights above a floor: of scores whose items each have a measured floor, and of an AUC, whose floor is 1/2.

A reading by likelihood scores every item in [0, 1], and its floor is the score of the same gold behind another item's
prompt. So the floor is a mean of the items as the base score b and the edited score e are, and a retained share s is
judged by one linear combination of all three, item by item:

    e - f >= s (b - f)   if and only if   s b + (1 - s) f - e <= 0.

The limits include the errors of b, e and f, and what these have in common cancels. The share itself, k = (e - f) /
(b - f) of the means, has limits from the same combination at s = k: it is 0 there, and its limits divided by b - f are
the leading term of Fieller's (Fieller, JRSS B 16, 1954, 175-185).

Unseen changes. Nearly every likelihood changes under an edit, so the sample shows how the changes are distributed, and
the studentized limits need no bound on the tails as 0/1 scores do. What they cannot show is a share of answers below
3 / n that an edit breaks altogether. The assumption: a broken answer falls to its floor, not below, and it is broken
whatever its height. So the bound on the mean size of such a loss (`audit.verdicts.bootstrap`) is the mean of the
positive parts of all heights. For an AUC it is 2 (A - 1/2): a share r of items that rank as often wrong as
right lowers it by 2 r (A - 1/2), and items that take each other's odds by half of that. The bound and the studentized
limit are added in quadrature, because few broken answers in the sample show too little of such a loss as well. Not
covered: answers that fall far below their floors in a share of the items below 3 / n, while none of those seen does.
For a gain that the sample does not show, nothing is allowed once `FEW_CHANGES` clusters changed.
benchmarks/verdict_likelihood.py measures all of these.
"""

import math
from typing import NamedTuple

import numpy as np

from audit.verdicts.bootstrap import (
    FEW_CHANGES,
    as_means,
    canonical_order,
    changes_of,
    contrast_of,
    nearer_by_coins,
    studentized,
)
from audit.verdicts.intervals import Codes, Floats, Limits, cluster_sums, recall_by_class_of, resolution
from audit.verdicts.placements import CHANCE, SPAN, Truths, as_pairs


class ChangesAboveFloor(NamedTuple):
    """What an edit changed, as in `bootstrap.Changes`.

    changed  how many clusters
    largest  the largest share of the drop of one of them, in points of a cluster of mean size
    height   the bound on the mean size of an unseen loss, in the same points
    span     the most that one item can change, in the same points: 1; 2 for an AUC
    """

    changed: float
    largest: float
    height: float
    span: float = 1.0

    def unseen(self, clusters: float, alpha: float) -> Limits:
        """The least distances (below, above) of the limits from the estimate, for changes that no cluster shows."""
        least = resolution(clusters, alpha)
        return Limits(self.span * least if self.changed < FEW_CHANGES else 0.0, self.height * least)

    @property
    def step(self) -> float:
        """Half a change, where there are few, as in `bootstrap.Changes`."""
        return 0.5 * self.largest if self.changed < FEW_CHANGES else 0.0


class Heights(NamedTuple):
    """(clusters, 2 ratios) tables of a base score, an edited score and a floor, with the same denominators."""

    base: Floats
    edited: Floats
    floors: Floats
    changes: ChangesAboveFloor

    @classmethod
    def of_scores(cls, base: Floats, edited: Floats, floors: Floats, codes: Codes) -> "Heights":
        """(n,) scores and floors in [0, 1], and the (n,) numbers of the items' clusters."""
        first, second, least = (cluster_sums(as_means(scores), codes) for scores in (base, edited, floors))
        above = np.maximum(0.0, first[:, 0] - least[:, 0])  # (clusters,)
        height = float(above.sum()) / max(float(first[:, 1].sum()), 1e-300)
        seen = changes_of(first, second)
        return cls(first, second, least, ChangesAboveFloor(seen.changed, seen.largest, height))

    @classmethod
    def of_placements(cls, base: Floats, edited: Floats, positives: Truths, codes: Codes) -> "Heights":
        """(n,) placements (`audit.verdicts.placements`) of both models, and (n,) truth values."""
        pairs = [as_pairs(placed, positives) for placed in (base, edited)]
        first, second = (cluster_sums(table, codes) for table in pairs)
        height = 2 * max(0.0, float(recall_by_class_of(first.sum(axis=0))) - CHANCE)
        # A changed placement changes the mean of its class, and so every row of the table. Only the items' own count.
        changed = len(np.unique(codes[base != edited]))
        largest = changes_of(first, second).largest
        floors = first * [0.0, 1.0, 0.0, 1.0]
        floors[:, 0::2] = CHANCE * floors[:, 1::2]
        return cls(first, second, floors, ChangesAboveFloor(changed, largest, height, SPAN))

    def limits(self, kept: float, alpha: float = 0.05, seed: int = 0) -> Limits:
        """Limits of kept * base + (1 - kept) * floor - edited; `kept` may be any number.

        Whole clusters are drawn, and the limits widened and bounded, as in `bootstrap.paired_bootstrap`.
        """
        line = self.base.copy()
        line[:, 0::2] = kept * self.base[:, 0::2] + (1 - kept) * self.floors[:, 0::2]
        reach = max(1.0, kept, 1 - kept)  # of a line through two scores in [0, 1]
        return _limits(line, self.edited, self.changes, reach, alpha, seed)

    def lower(self, alpha: float = 0.05, seed: int = 0) -> float:
        """The lower limit of base - floor."""
        apart = changes_of(self.base, self.floors)
        changes = ChangesAboveFloor(apart.changed, apart.largest, 0.0, self.changes.span)
        return _limits(self.base, self.floors, changes, 1.0, alpha, seed).lower


def _limits(first: Floats, second: Floats, changes: ChangesAboveFloor, reach: float, alpha: float, seed: int) -> Limits:
    """Limits of score(first) - score(second)."""
    order = canonical_order(first, second)
    first, second = first[order], second[order]
    clusters, carriers = len(first), int((first != second).any(axis=1).sum())
    estimate = float(recall_by_class_of(first.sum(axis=0))) - float(recall_by_class_of(second.sum(axis=0)))
    (below, above), _ = studentized(contrast_of(first, second), alpha, seed, carriers)
    step, least = changes.step / clusters, changes.unseen(clusters, alpha)
    reached = Limits(below + step, above + step)
    below, above = nearer_by_coins(reached, first, second, alpha, changes.span * reach)
    return Limits(estimate - max(below, least.lower), estimate + math.hypot(above, least.upper))
