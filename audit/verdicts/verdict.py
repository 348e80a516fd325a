"""From paired scores to a verdict: non-inferiority within a margin fixed before the run.

PASS          the upper limit of the drop is within the margin
FAIL          the lower limit of the drop is beyond the margin; or the drop is, and harm is certain (lower limit > 0)
INCONCLUSIVE  neither; or the base model is not clearly above the floor, so nothing could be lost (assay sensitivity)

The estimand: the expected change on items like these, with greedy decoding and this prompt. An improvement never fails.
Passing all abilities needs no correction for their number (intersection-union); each limit holds for its own ability.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.errors import AuditError
from audit.verdicts.intervals import (
    Floats,
    Limits,
    f1_of,
    mean_of,
    paired_bootstrap,
    recall_by_class_of,
    resolution,
    tango,
    wilson_lower,
)
from audit.verdicts.outcome import Outcome, Verdict

Codes = NDArray[np.intp]  # (n,) the number of each item's cluster

_MANY = 1_000_000  # more further items than this is no advice


class _Evidence(NamedTuple):
    base: float
    edited: float
    drop: float
    limits: Limits
    base_lower: float
    method: str
    limits_at: Callable[[float], Limits]  # the limits to expect from so many times the items, at the same rates


def judge(
    base: Sequence[float] | Floats,
    edited: Sequence[float] | Floats,
    *,
    margin: float,
    floor: float,
    clusters: Sequence[str] | None = None,
    base_counts: ArrayLike | None = None,
    edited_counts: ArrayLike | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> Verdict:
    """Judge the drop from `base` to `edited`: (n,) scores in [0, 1] of the same items, in the same order.

    `clusters` names each item's source (items that share one are not independent). With `base_counts` and
    `edited_counts` the score is a corpus metric of their sums and the (n,) scores only tell which items changed: (n, 3)
    of (true positives, false positives, misses) are for F1, (n, 2 classes) of (found, there to be found) for the mean
    recall over the classes. `alpha` is one-sided.

    0/1 scores without shared sources: Tango's interval (Wilson's for the base). 0/1 scores with shared sources: cluster
    bootstrap, never narrower than Tango's interval on the items. All others: paired bootstrap over clusters.
    """
    before, after = _scores(base, "base"), _scores(edited, "edited")
    if before.shape != after.shape:
        raise ValueError(f"{len(before)} base scores and {len(after)} edited scores; judge the same items in both")
    if not 0 <= margin < 1:
        raise AuditError(f"a margin of {margin} is out of range; give score points from 0 to below 1, such as 0.05")
    codes = _codes(clusters, len(before))

    if base_counts is not None and edited_counts is not None:
        tables = _counts(base_counts, len(before)), _counts(edited_counts, len(before))
        if tables[0].shape != tables[1].shape:
            raise ValueError(f"counts of shapes {tables[0].shape} and {tables[1].shape}; count the same in both models")
        evidence = _bootstrapped(*tables, f1_of if tables[0].shape[1] == 3 else recall_by_class_of, codes, alpha, seed)
    elif base_counts is not None or edited_counts is not None:
        raise ValueError("counts of only one model; give base_counts and edited_counts, or neither")
    elif np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all():
        evidence = _binary(before, after, codes, alpha, seed)
    else:
        ones = np.ones_like(before)
        tables = np.stack([before, ones], axis=1), np.stack([after, ones], axis=1)
        evidence = _bootstrapped(*tables, mean_of, codes, alpha, seed)

    outcome = _outcome(evidence, margin, floor)
    more = _more_items(evidence, margin, floor, len(before)) if outcome is Outcome.INCONCLUSIVE else None
    return Verdict(
        outcome=outcome,
        base=evidence.base,
        edited=evidence.edited,
        drop=evidence.drop,
        lower=evidence.limits.lower,
        upper=evidence.limits.upper,
        margin=margin,
        n=len(before),
        floor=floor,
        clusters=int(codes.max()) + 1,
        method=evidence.method,
        right_to_wrong=int((after < before).sum()),
        wrong_to_right=int((after > before).sum()),
        sentence=_sentence(outcome, evidence, margin, floor, more, alpha),
        base_lower=evidence.base_lower,
        more_items=more,
    )


def minimum_certifiable_margin(verdict: Verdict) -> float | None:
    """The smallest margin with which this very run would have passed; None when its base is not above the floor."""
    if verdict.base_lower is None or verdict.base_lower <= verdict.floor:
        return None
    return max(0.0, verdict.upper)


def _binary(before: Floats, after: Floats, codes: Codes, alpha: float, seed: int) -> _Evidence:
    n = len(before)
    lost, gained = int((after < before).sum()), int((after > before).sum())
    right, drop = int(before.sum()), (lost - gained) / n
    limits, base_lower = tango(lost, gained, n, alpha), wilson_lower(right, n, alpha)

    def limits_at(times: float) -> Limits:
        return tango(lost * times, gained * times, n * times, alpha)

    if int(codes.max()) + 1 == n:
        return _Evidence(right / n, int(after.sum()) / n, drop, limits, base_lower, "tango", limits_at)
    ones = np.ones(n)
    drawn = _bootstrapped(np.stack([before, ones], 1), np.stack([after, ones], 1), mean_of, codes, alpha, seed)
    wider = Limits(min(limits.lower, drawn.limits.lower), max(limits.upper, drawn.limits.upper))

    def wider_at(times: float) -> Limits:
        simple, clustered = limits_at(times), drawn.limits_at(times)
        return Limits(min(simple.lower, clustered.lower), max(simple.upper, clustered.upper))

    return drawn._replace(drop=drop, limits=wider, base_lower=min(base_lower, drawn.base_lower), limits_at=wider_at)


def _bootstrapped(
    before: Floats,
    after: Floats,
    statistic: Callable[[Floats], Floats],
    codes: Codes,
    alpha: float,
    seed: int,
) -> _Evidence:
    """`before` and `after`: (n, k) what each item adds to the sums that `statistic` reads."""
    first, second = _by_cluster(before, codes), _by_cluster(after, codes)  # (clusters, k)
    # fsum rounds once, so the order of the items cannot show in the last digit.
    base, edited = (float(statistic(_exact_sums(table))) for table in (before, after))
    limits, base_lower = paired_bootstrap(first, second, statistic, alpha, seed)
    drop = base - edited

    def limits_at(times: float) -> Limits:
        least, shrink = resolution(len(first) * times, alpha), math.sqrt(times)
        below = max((drop - limits.lower) / shrink, least)
        above = max((limits.upper - drop) / shrink, least)
        return Limits(drop - below, drop + above)

    return _Evidence(base, edited, drop, limits, base_lower, "paired bootstrap", limits_at)


def _outcome(evidence: _Evidence, margin: float, floor: float) -> Outcome:
    if evidence.base_lower <= floor:
        return Outcome.INCONCLUSIVE
    if _passes(evidence.limits, margin):
        return Outcome.PASS
    return Outcome.FAIL if _fails(evidence.drop, evidence.limits, margin) else Outcome.INCONCLUSIVE


def _passes(limits: Limits, margin: float) -> bool:
    return limits.upper <= margin


def _fails(drop: float, limits: Limits, margin: float) -> bool:
    return limits.lower > margin or (drop > margin and limits.lower > 0)


def _more_items(evidence: _Evidence, margin: float, floor: float, n: int) -> int | None:
    """Further items until PASS or FAIL if all rates stay as they are; None when not even a million would do."""
    if evidence.base_lower <= floor:
        return None

    def settled(times: float) -> bool:
        limits = evidence.limits_at(times)
        return _passes(limits, margin) or _fails(evidence.drop, limits, margin)

    few, many = 1.0, 2.0
    while not settled(many):
        few, many = many, many * 2
        if (many - 1) * n > _MANY:
            return None
    for _ in range(30):
        middle = (few + many) / 2
        few, many = (few, middle) if settled(middle) else (middle, many)
    return max(1, math.ceil((many - 1) * n - 1e-6))


def _sentence(
    outcome: Outcome, evidence: _Evidence, margin: float, floor: float, more: int | None, alpha: float
) -> str:
    drop, (lower, upper), sure = f"{evidence.drop:.3f}", evidence.limits, f"with {100 * (1 - alpha):g} % confidence"
    if evidence.base_lower <= floor:
        fell = f", although it fell by {drop}, by at least {_down(lower)} {sure}" if lower > margin else ""
        return (
            f"The base model's {evidence.base:.3f} (at least {_down(evidence.base_lower)} {sure}) is not clearly above "
            f"the floor of {floor:.3f}, so this ability cannot be assessed on this model{fell}."
        )
    if outcome is Outcome.PASS:
        note = ": detectable, but acceptable" if lower > 0 else ""
        return f"The drop of {drop} is at most {_up(upper)} {sure}, within the margin of {margin:g}{note}."
    if outcome is Outcome.FAIL and lower > margin:
        return f"The drop of {drop} is at least {_down(lower)} {sure}, beyond the margin of {margin:g}."
    if outcome is Outcome.FAIL:
        harm = f"{sure} it is real harm, at least {_down(lower)}"
        return f"The drop of {drop} exceeds the margin of {margin:g}, and {harm}."
    advice = f"about {more} more items" if more is not None else "no affordable number of items"
    return (
        f"The drop of {drop} may be as large as {_up(upper)} or as small as {_down(lower)} ({sure} each), which does "
        f"not settle a margin of {margin:g}: {advice} would, and this run certifies a margin of {_up(max(0.0, upper))}."
    )


def _up(value: float) -> str:
    # Rounded up, so that a user who sets the printed margin does pass.
    return f"{math.ceil(value * 1000) / 1000:.3f}"


def _down(value: float) -> str:
    return f"{math.floor(value * 1000) / 1000:.3f}"


def _scores(values: Sequence[float] | Floats, whose: str) -> Floats:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not scores.size:
        raise AuditError(f"there are no {whose} scores to judge; ask at least one item")
    if not (np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1):
        bad = scores[~((scores >= 0) & (scores <= 1))][0]
        raise ValueError(f"{bad} among the {whose} scores; a score is a number from 0 to 1")
    return scores


def _counts(values: ArrayLike, n: int) -> Floats:
    counts = np.asarray(values, dtype=np.float64)
    fits = (
        counts.ndim == 2 and len(counts) == n and (counts.shape[1] == 3 or counts.shape[1] % 2 == 0 < counts.shape[1])
    )
    if not fits or not np.isfinite(counts).all() or counts.min() < 0:
        raise ValueError(f"counts of shape {counts.shape} for {n} items; give (n, 3) or pairs, none negative")
    return counts


def _codes(clusters: Sequence[str] | None, n: int) -> Codes:
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} cluster keys for {n} items; give one for every item")
    return np.unique(np.asarray(clusters, dtype=str), return_inverse=True)[1]


def _by_cluster(table: Floats, codes: Codes) -> Floats:
    return np.stack([np.bincount(codes, weights=column) for column in table.T], axis=1)


def _exact_sums(table: Floats) -> Floats:
    return np.array([math.fsum(column) for column in table.T])
