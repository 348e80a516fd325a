"""How much of what lies above the floor an edited model keeps: of one ability, as a mean over abilities, and compared.

    share = kept_share(base, edited, floor=0.5)           # Kept(0.93, 0.88, 0.97)
    mean_kept([share, ...])                               # their mean, where negative shares count as 0

The share k = (edited - floor) / (base - floor) has the limits of k base + (1 - k) floor - edited, divided by base -
floor (`audit.verdicts.heights`). The scores of abilities are those of other items, so they are independent, and the
limits of the mean follow from theirs by the method of variance estimates recovery (Zou and Donner, Statistics in
Medicine 27, 2008, 1693-1702): with shares k_a and limits l_a and u_a of A abilities,

    lower = mean k - sqrt(sum (k_a - l_a)^2) / A,    upper = mean k + sqrt(sum (u_a - k_a)^2) / A.

A share below 0 is taken as 0: what an ability has lost below its floor does not offset what another keeps. There is no
cap above. A mean of such parts is too high where true shares are about 0, since errors upwards stay and those downwards
are cut off. So the lower limit is that of the mean of the shares as they are, which cannot be larger than the mean of
their positive parts; abilities that are certainly below 0 add 0 to it. The upper limit, of the positive parts, errs to
the safe side there. The limits are about other items like these; the edits and the abilities are fixed.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from audit.verdicts.bootstrap import (
    FEW_CHANGES,
    Contrast,
    as_means,
    as_ratios,
    paired_bootstrap,
    studentized,
)
from audit.verdicts.evidence import Kept
from audit.verdicts.heights import Heights
from audit.verdicts.intervals import Floats, cluster_codes, cluster_sums, recall_by_class_of, resolution
from audit.verdicts.placements import CHANCE, as_pairs, odds_of, placements

__all__ = ["Kept", "ShareTable", "kept_difference", "kept_share", "mean_difference", "mean_kept"]


class ShareTable(NamedTuple):
    """(clusters, 2 ratios) tables of a base score, an edited score and, where it is measured by item, of the floor.

    `floor` is the floor over all items, `heights` what gives the limits of a share; None where the floor is a number.
    """

    base: Floats
    edited: Floats
    floor: float
    heights: Heights | None = None

    @classmethod
    def of(
        cls,
        base: Sequence[float] | Floats,
        edited: Sequence[float] | Floats,
        *,
        floor: float,
        clusters: Sequence[str] | None = None,
        base_counts: ArrayLike | None = None,
        edited_counts: ArrayLike | None = None,
        floors: Sequence[float] | Floats | None = None,
        base_odds: ArrayLike | None = None,
        edited_odds: ArrayLike | None = None,
        positives: ArrayLike | None = None,
    ) -> "ShareTable":
        """The tables of scores as `audit.verdicts.verdict.judge` takes them."""
        before, after = np.asarray(base, dtype=np.float64), np.asarray(edited, dtype=np.float64)
        codes = cluster_codes(clusters, len(before))
        if floors is not None:
            beneath = np.asarray(floors, dtype=np.float64)
            heights = Heights.of_scores(before, after, beneath, codes)
            return cls(heights.base, heights.edited, float(beneath.mean()), heights)
        if (tables := odds_of(base_odds, edited_odds, positives, len(before))) is not None:
            truth = tables[2]
            placed = [placements(odds, truth) for odds in tables[:2]]
            heights = Heights.of_placements(placed[0], placed[1], truth, codes)
            first, second = (cluster_sums(as_pairs(one, truth), codes) for one in placed)
            return cls(first, second, CHANCE, heights)
        if base_counts is not None and edited_counts is not None:
            counted = (as_ratios(np.asarray(counts, dtype=np.float64)) for counts in (base_counts, edited_counts))
            first, second = (cluster_sums(table, codes) for table in counted)
            return cls(first, second, floor)
        return cls(cluster_sums(as_means(before), codes), cluster_sums(as_means(after), codes), floor)

    @property
    def height(self) -> float:
        """The base score above the floor."""
        return _score(self.base) - self.floor

    @property
    def share(self) -> float:
        """The share of the height that is left; NaN where the base score is the floor or less."""
        return (_score(self.edited) - self.floor) / self.height if self.height > 0 else math.nan


def kept_share(table: ShareTable, alpha: float = 0.05, seed: int = 0) -> Kept:
    """The share that is kept, with its one-sided limits at 1 - alpha each; the base score must be above the floor.

    Raises:
        ValueError: it is not.
    """
    share, height = table.share, table.height
    if math.isnan(share):
        raise ValueError(f"a base score {height:g} above the floor; there is nothing to keep")
    if table.heights is not None:
        below, above = table.heights.limits(share, alpha, seed)
    else:
        found = paired_bootstrap(table.base, table.edited, alpha, seed, kept=share).limits
        below, above = (limit + (1 - share) * table.floor for limit in found)
    return Kept(share, share - max(0.0, above) / height, share - min(0.0, below) / height)


def mean_kept(shares: Sequence[Kept]) -> Kept:
    """The mean over abilities of the shares that are kept, at least 0 each, with its limits; NaN without any."""
    positive = _mean([_from_zero(one) for one in shares])
    plain = _mean([one if one.upper > 0 else Kept(0.0, 0.0, 0.0) for one in shares])
    return positive._replace(lower=max(0.0, min(positive.lower, plain.lower))) if shares else positive


def kept_difference(first: ShareTable, second: ShareTable, alpha: float = 0.05, seed: int = 0) -> Kept:
    """The share that the first edited model keeps minus that of the second, on the same items; shares from 0 up.

    Both tables have the same base scores. With d the difference of the shares, the limits are those of
    edited_2 + d (base - floor) - edited_1, which is 0, item by item. Where a share is below 0, which no item shows,
    they are those of two independent shares.
    """
    height, d = first.height, first.share - second.share
    if min(first.share, second.share) <= 0:
        one, other = (_from_zero(kept_share(table, alpha, seed)) for table in (first, second))
        return _sum(one, Kept(-other.share, -other.upper, -other.lower))
    parts = [(second.edited, 1.0), (first.base, d), (first.edited, -1.0)]
    if first.heights is not None:  # else the floor is a number, which moves nothing
        parts.append((first.heights.floors, -d))
    contrast = _contrast(parts)
    moved = int((first.edited != second.edited).any(axis=1).sum())
    (below, above), _ = studentized(contrast, alpha, seed, None if d else moved)  # with d, all clusters carry
    least = resolution(len(first.base), alpha) if moved < FEW_CHANGES else 0.0
    return Kept(d, d - max(above, least) / height, d + max(below, least) / height)


def mean_difference(differences: Sequence[Kept]) -> Kept:
    """The difference of the mean shares of two models over the same abilities, with its limits."""
    return _mean(differences)


def _contrast(parts: Sequence[tuple[Floats, float]]) -> Contrast:
    """The sum of weight * score(table) of (clusters, 2 ratios) tables; a class without items is left out."""
    there = [table[:, 1::2].sum(axis=0) > 0 for table, _ in parts]
    return Contrast(
        np.hstack([table[:, 0::2][:, kept] for (table, _), kept in zip(parts, there, strict=True)]),
        np.hstack([table[:, 1::2][:, kept] for (table, _), kept in zip(parts, there, strict=True)]),
        np.concatenate(
            [np.full(kept.sum(), weight / kept.sum()) for (_, weight), kept in zip(parts, there, strict=True)]
        ),
    )


def _mean(parts: Sequence[Kept]) -> Kept:
    if not parts:
        return Kept(math.nan, math.nan, math.nan)
    total = _sum(*parts)
    return Kept(*(number / len(parts) for number in total))


def _sum(*parts: Kept) -> Kept:
    """The sum of independent numbers with its limits."""
    total = math.fsum(one.share for one in parts)
    below = math.hypot(*(one.share - one.lower for one in parts))
    above = math.hypot(*(one.upper - one.share for one in parts))
    return Kept(total, total - below, total + above)


def _from_zero(share: Kept) -> Kept:
    return Kept(*(max(0.0, number) for number in share))


def _score(table: Floats) -> float:
    return float(recall_by_class_of(table.sum(axis=0)))
