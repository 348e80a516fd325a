"""The evidence of paired scores: estimates and their limits, which `audit.verdicts.verdict` turns into a verdict."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from audit.verdicts.bootstrap import changes_of, paired_bootstrap
from audit.verdicts.heights import Heights
from audit.verdicts.intervals import (
    Codes,
    Floats,
    Limits,
    cluster_sums,
    clustered_limits,
    clustered_wilson_lower,
    paired_limits,
    recall_by_class_of,
    resolution,
    wilson_lower,
)
from audit.verdicts.margins import Margin, Retained
from audit.verdicts.placements import CHANCE, Truths, as_pairs, placements

BOOTSTRAP = "studentized bootstrap"


class Kept(NamedTuple):
    """The share of (base - floor) that is left, and its one-sided limits."""

    share: float
    lower: float
    upper: float


class Evidence(NamedTuple):
    """What `audit.verdicts.verdict.judge` decides from."""

    base: float
    edited: float
    drop: float
    limits: Limits  # of the drop; for a retained share, of the drop against the estimated margin
    base_lower: float
    method: str
    limits_at: Callable[[float], Limits]  # the limits to expect from so many times the items, at the same rates
    harm: float  # the lower limit of the drop itself
    kept: Kept | None = None


def binary_evidence(before: Floats, after: Floats, codes: Codes, alpha: float) -> Evidence:
    """The evidence of (n,) 0/1 scores: Tango's interval, with a design effect where items share sources."""
    n = len(before)
    lost, gained, right = after < before, after > before, before > 0
    base, edited, drop = int(right.sum()) / n, int(after.sum()) / n, (int(lost.sum()) - int(gained.sum())) / n
    if int(codes.max()) + 1 == n:
        losses, gains = int(lost.sum()), int(gained.sum())
        limits, base_lower = paired_limits(losses, gains, n, alpha), wilson_lower(int(right.sum()), n, alpha)

        def limits_at(times: float) -> Limits:
            return paired_limits(losses * times, gains * times, n * times, alpha)

        return Evidence(base, edited, drop, limits, base_lower, "tango", limits_at, limits.lower)
    table = np.stack([lost, gained, right, np.ones(n)], axis=1).astype(np.float64)
    lost, gained, rights, sizes = cluster_sums(table, codes).T
    limits, base_lower = clustered_limits(lost, gained, sizes, alpha), clustered_wilson_lower(rights, sizes, alpha)

    def wider_at(times: float) -> Limits:
        least = resolution(len(sizes) * times, alpha)
        return _shrunk(drop, limits, times, Limits(least, least))

    return Evidence(base, edited, drop, limits, base_lower, "clustered tango", wider_at, limits.lower)


def bootstrap_evidence(before: Floats, after: Floats, codes: Codes, alpha: float, seed: int, asked: Margin) -> Evidence:
    """The evidence of (n, 2 ratios) tables: the numerators and denominators that each item adds."""
    first, second = cluster_sums(before, codes), cluster_sums(after, codes)  # (clusters, 2 ratios)
    base, edited = _score_of(before), _score_of(after)
    drop = base - edited
    limits, base_lower, _ = paired_bootstrap(first, second, alpha, seed)
    changes = changes_of(first, second)
    harm = limits.lower
    if isinstance(asked, Retained):
        kept = paired_bootstrap(first, second, alpha, seed, kept=asked.share).limits
        # share * base - edited + (1 - share) floor, moved by the estimated margin so that it reads as a drop
        limits = Limits(*(limit + (1 - asked.share) * base for limit in kept))

    def limits_at(times: float) -> Limits:
        more = changes._replace(changed=changes.changed * times)
        return _shrunk(drop, limits, times, more.unseen(len(first) * times, alpha))

    return Evidence(base, edited, drop, limits, base_lower, BOOTSTRAP, limits_at, harm)


def floored_evidence(
    before: Floats, after: Floats, floors: Floats, codes: Codes, alpha: float, seed: int, asked: Margin
) -> Evidence:
    """The evidence of (n,) scores whose items have (n,) floors."""
    heights = Heights.of_scores(before, after, floors, codes)
    base, edited, floor = (math.fsum(values) / len(values) for values in (before, after, floors))
    return _evidence_above_floor(heights, base, edited, floor, alpha, seed, asked)


def odds_evidence(
    before: Floats, after: Floats, positives: Truths, codes: Codes, alpha: float, seed: int, asked: Margin
) -> Evidence:
    """The evidence of (n, models) log-odds of (n,) positives and negatives: their AUC.

    With one class only there is no AUC, and nothing to assess: a base score of 1/2 with a lower limit of 0.
    """
    if positives.all() or not positives.any():
        nothing = Limits(-1.0, 1.0)
        return Evidence(CHANCE, CHANCE, 0.0, nothing, 0.0, BOOTSTRAP, lambda _: nothing, -1.0)
    first, second = placements(before, positives), placements(after, positives)
    heights = Heights.of_placements(first, second, positives, codes)
    base, edited = (_score_of(as_pairs(placed, positives)) for placed in (first, second))
    return _evidence_above_floor(heights, base, edited, CHANCE, alpha, seed, asked)


def _evidence_above_floor(
    heights: Heights, base: float, edited: float, floor: float, alpha: float, seed: int, asked: Margin
) -> Evidence:
    """`base`, `edited` and `floor` are the scores over all items."""
    drop, height = base - edited, base - floor
    changed = heights.limits(1.0, alpha, seed)
    harm, limits = max(-1.0, changed.lower), changed
    if isinstance(asked, Retained):
        # moved by the estimated margin so that it reads as a drop
        limits = Limits(*(limit + (1 - asked.share) * height for limit in heights.limits(asked.share, alpha, seed)))
    limits = Limits(max(-1.0, min(limits.lower, drop)), min(1.0, max(limits.upper, drop)))
    base_lower = max(0.0, min(base, floor + heights.lower(alpha, seed)))
    kept = None
    if base_lower > floor:
        share = (edited - floor) / height
        below, above = heights.limits(share, alpha, seed)  # of share * base + (1 - share) * floor - edited, which is 0
        kept = Kept(share, share - above / height, share - below / height)

    def limits_at(times: float) -> Limits:
        more = heights.changes._replace(changed=heights.changes.changed * times)
        return _shrunk(drop, limits, times, more.unseen(len(heights.base) * times, alpha))

    return Evidence(base, edited, drop, limits, base_lower, BOOTSTRAP, limits_at, harm, kept)


def _score_of(table: Floats) -> float:
    """The score of (n, 2 ratios); fsum rounds once, so the order of the items cannot show in the last digit."""
    return float(recall_by_class_of(np.array(list(map(math.fsum, table.T)))))


def _shrunk(drop: float, limits: Limits, times: float, least: Limits) -> Limits:
    shrink = math.sqrt(times)
    below = max((drop - limits.lower) / shrink, least.lower)
    above = max((limits.upper - drop) / shrink, least.upper)
    return Limits(drop - below, drop + above)
