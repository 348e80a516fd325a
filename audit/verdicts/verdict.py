"""From paired scores to a verdict: non-inferiority within a margin fixed before the run.

PASS          the upper limit of the drop is within the margin
FAIL          ground 1: the lower limit of the drop is beyond the margin
              ground 2: the estimated drop is beyond the margin, and the lower limit is above 0
INCONCLUSIVE  neither; or the base model is not clearly above the floor, so nothing could be lost (assay sensitivity)

Error control, at alpha = 5 %: P(PASS | true drop > margin) and P(ground 1 | true drop <= margin) are at most alpha.
Ground 2 controls only P(FAIL | true drop <= 0): some harm is certain, and the estimate is beyond the margin. With 200
items, a discordance of 0.1, a true drop of 0.025 and a margin of 0.05, it applies in 11 % of runs.

The estimand: the expected change on items like these, with greedy decoding and this prompt. An improvement never fails.
Passing all abilities needs no correction for their number (intersection-union); each limit holds for its own ability.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from audit.errors import AuditError
from audit.verdicts import Outcome, Verdict
from audit.verdicts.bootstrap import as_means, as_ratios, changes_of, paired_bootstrap
from audit.verdicts.intervals import (
    Codes,
    Floats,
    Limits,
    cluster_codes,
    cluster_sums,
    clustered_limits,
    clustered_wilson_lower,
    paired_limits,
    recall_by_class_of,
    resolution,
    wilson_lower,
)
from audit.verdicts.margins import Margin, Retained, margin_of

_MANY = 1_000_000  # further items; a larger number is not suggested


class _Evidence(NamedTuple):
    base: float
    edited: float
    drop: float
    limits: Limits  # of the drop; for a retained share, of the drop against the estimated margin
    base_lower: float
    method: str
    limits_at: Callable[[float], Limits]  # the limits to expect from so many times the items, at the same rates
    harm: float  # the lower limit of the drop itself


def judge(
    base: Sequence[float] | Floats,
    edited: Sequence[float] | Floats,
    *,
    margin: float | Margin,
    floor: float,
    clusters: Sequence[str] | None = None,
    base_counts: ArrayLike | None = None,
    edited_counts: ArrayLike | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> Verdict:
    """Judge the drop from `base` to `edited`: (n,) scores in [0, 1] of the same items, in the same order.

    `clusters` names each item's source (items that share one are not independent). With `base_counts` and
    `edited_counts` the score is a corpus metric of their sums and the (n,) scores only show which items changed: (n, 3)
    of (true positives, false positives, misses) are for F1, (n, 2 classes) of (found, there to be found) for the mean
    recall over the classes. `alpha` is one-sided. `margin` is a number of score points, or what
    `audit.verdicts.margins.parse_margin` gives: a retained share is judged by the limits of share * base - edited.

    0/1 scores without shared sources: Tango's interval (Wilson's for the base). 0/1 scores with shared sources: the
    same with the design effect of the clusters, never narrower than on the items. All others, and retained shares:
    studentized paired bootstrap over clusters.
    """
    before, after = _scores(base, "base"), _scores(edited, "edited")
    if before.shape != after.shape:
        raise ValueError(f"{len(before)} base scores and {len(after)} edited scores; judge the same items in both")
    asked = margin_of(margin)
    codes = cluster_codes(clusters, len(before))

    if base_counts is not None and edited_counts is not None:
        tables = _counts(base_counts, len(before)), _counts(edited_counts, len(before))
        if tables[0].shape != tables[1].shape:
            raise ValueError(f"counts of shapes {tables[0].shape} and {tables[1].shape}; count the same in both models")
        evidence = _bootstrapped(as_ratios(tables[0]), as_ratios(tables[1]), codes, alpha, seed, asked)
    elif base_counts is not None or edited_counts is not None:
        raise ValueError("counts of only one model; give base_counts and edited_counts, or neither")
    elif not isinstance(asked, Retained) and np.isin([before, after], (0, 1)).all():
        evidence = _binary(before, after, codes, alpha)
    else:
        evidence = _bootstrapped(as_means(before), as_means(after), codes, alpha, seed, asked)

    points = asked.at(evidence.base, floor)
    able = evidence.base_lower > floor
    outcome = _outcome(evidence.drop, evidence.limits, evidence.harm, points) if able else Outcome.INCONCLUSIVE
    return Verdict(
        outcome=outcome,
        base=evidence.base,
        edited=evidence.edited,
        drop=evidence.drop,
        lower=evidence.limits.lower,
        upper=evidence.limits.upper,
        margin=points,
        n=len(before),
        floor=floor,
        clusters=int(codes.max()) + 1,
        method=evidence.method,
        right_to_wrong=int((after < before).sum()),
        wrong_to_right=int((after > before).sum()),
        base_lower=evidence.base_lower,
        more_items=_more_items(evidence, points, len(before)) if able and outcome is Outcome.INCONCLUSIVE else None,
        confidence=1 - alpha,
        harm_lower=evidence.harm if isinstance(asked, Retained) else None,
    )


def _binary(before: Floats, after: Floats, codes: Codes, alpha: float) -> _Evidence:
    n = len(before)
    lost, gained, right = after < before, after > before, before > 0
    base, edited, drop = int(right.sum()) / n, int(after.sum()) / n, (int(lost.sum()) - int(gained.sum())) / n
    if int(codes.max()) + 1 == n:
        losses, gains = int(lost.sum()), int(gained.sum())
        limits, base_lower = paired_limits(losses, gains, n, alpha), wilson_lower(int(right.sum()), n, alpha)

        def limits_at(times: float) -> Limits:
            return paired_limits(losses * times, gains * times, n * times, alpha)

        return _Evidence(base, edited, drop, limits, base_lower, "tango", limits_at, limits.lower)
    table = np.stack([lost, gained, right, np.ones(n)], axis=1).astype(np.float64)
    lost, gained, rights, sizes = cluster_sums(table, codes).T
    limits, base_lower = clustered_limits(lost, gained, sizes, alpha), clustered_wilson_lower(rights, sizes, alpha)

    def wider_at(times: float) -> Limits:
        least = resolution(len(sizes) * times, alpha)
        return _shrunk(drop, limits, times, Limits(least, least))

    return _Evidence(base, edited, drop, limits, base_lower, "clustered tango", wider_at, limits.lower)


def _bootstrapped(before: Floats, after: Floats, codes: Codes, alpha: float, seed: int, asked: Margin) -> _Evidence:
    """`before` and `after`: (n, 2 ratios), the numerators and denominators that each item adds."""
    first, second = cluster_sums(before, codes), cluster_sums(after, codes)  # (clusters, 2 ratios)
    # fsum rounds once, so the order of the items cannot show in the last digit.
    base, edited = (float(recall_by_class_of(np.array(list(map(math.fsum, table.T))))) for table in (before, after))
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

    return _Evidence(base, edited, drop, limits, base_lower, "studentized bootstrap", limits_at, harm)


def _shrunk(drop: float, limits: Limits, times: float, least: Limits) -> Limits:
    shrink = math.sqrt(times)
    below = max((drop - limits.lower) / shrink, least.lower)
    above = max((limits.upper - drop) / shrink, least.upper)
    return Limits(drop - below, drop + above)


def _outcome(drop: float, limits: Limits, harm: float, margin: float) -> Outcome:
    if limits.upper <= margin:
        return Outcome.PASS
    return Outcome.FAIL if limits.lower > margin or (drop > margin and harm > 0) else Outcome.INCONCLUSIVE


def _more_items(evidence: _Evidence, margin: float, n: int) -> int | None:
    """Further items until PASS or FAIL if all rates stay as they are; None if a million would not be enough."""

    def settled(times: float) -> bool:
        limits = evidence.limits_at(times)
        return _outcome(evidence.drop, limits, limits.lower, margin) is not Outcome.INCONCLUSIVE

    few, many = 1.0, 2.0
    while not settled(many):
        few, many = many, many * 2
        if (many - 1) * n > _MANY:
            return None
    for _ in range(30):
        middle = (few + many) / 2
        few, many = (few, middle) if settled(middle) else (middle, many)
    return max(1, math.ceil((many - 1) * n - 1e-6))


def _scores(values: Sequence[float] | Floats, whose: str) -> Floats:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not scores.size:
        raise AuditError(f"there are no {whose} scores to judge; ask at least one item")
    bad = scores[~((scores >= 0) & (scores <= 1))]  # NaN, too
    if bad.size:
        raise ValueError(f"{bad[0]} among the {whose} scores; a score is a number from 0 to 1")
    return scores


def _counts(values: ArrayLike, n: int) -> Floats:
    counts = np.asarray(values, dtype=np.float64)
    columns = counts.shape[1] if counts.ndim == 2 and len(counts) == n else 0
    if not (columns == 3 or columns % 2 == 0 < columns) or not np.isfinite(counts).all() or counts.min() < 0:
        raise ValueError(f"counts of shape {counts.shape} for {n} items; give (n, 3) or pairs, none negative")
    return counts
