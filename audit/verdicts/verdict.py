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
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from audit.errors import AuditError
from audit.verdicts import Outcome, Verdict
from audit.verdicts.bootstrap import as_means, as_ratios
from audit.verdicts.evidence import Evidence, binary_evidence, bootstrap_evidence, floored_evidence, odds_evidence
from audit.verdicts.intervals import Codes, Floats, Limits, cluster_codes
from audit.verdicts.margins import Margin, Retained, margin_of
from audit.verdicts.placements import CHANCE, odds_of

_MANY = 1_000_000  # further items; a larger number is not suggested


def judge(
    base: Sequence[float] | Floats,
    edited: Sequence[float] | Floats,
    *,
    margin: float | Margin,
    floor: float,
    clusters: Sequence[str] | None = None,
    base_counts: ArrayLike | None = None,
    edited_counts: ArrayLike | None = None,
    floors: Sequence[float] | Floats | None = None,
    base_odds: ArrayLike | None = None,
    edited_odds: ArrayLike | None = None,
    positives: ArrayLike | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> Verdict:
    """Judge the drop from `base` to `edited`: (n,) scores in [0, 1] of the same items, in the same order.

    `clusters` names each item's source (items that share one are not independent). With `base_counts` and
    `edited_counts` the score is a corpus metric of their sums and the (n,) scores only show which items changed: (n, 3)
    of (true positives, false positives, misses) are for F1, (n, 2 classes) of (found, there to be found) for the mean
    recall over the classes. `alpha` is one-sided. `margin` is a number of score points, or what
    `audit.verdicts.margins.parse_margin` gives: a retained share is judged by the limits of share * base - edited.

    `floors`: the (n,) floors of the items, for scores that are likelihoods. The verdict's floor is their mean, `floor`
    is not used, and a retained share is judged by the limits of share * base + (1 - share) * floors - edited. The base
    is assessable if the lower limit of the mean of base - floors is above 0.

    With `base_odds` (n,), `edited_odds` (n,) or (n, models) and `positives`, (n,) truth values, the score is the AUC of
    the odds, averaged over the models, its floor is 1/2, and the (n,) scores only show which items changed. Odds may be
    infinite; NaN is as wrong as possible. With items of one class only the verdict is INCONCLUSIVE.

    0/1 scores without shared sources: Tango's interval (Wilson's for the base). 0/1 scores with shared sources: the
    same with the design effect of the clusters, never narrower than on the items. All others, retained shares, and
    scores with floors: studentized paired bootstrap over clusters.
    """
    before, after = _scores(base, "base"), _scores(edited, "edited")
    if before.shape != after.shape:
        raise ValueError(f"{len(before)} base scores and {len(after)} edited scores; judge the same items in both")
    asked = margin_of(margin)
    codes = cluster_codes(clusters, len(before))
    counts, odds = (base_counts, edited_counts), (base_odds, edited_odds, positives)
    if sum(any(part is not None for part in given) for given in (counts, odds, (floors,))) > 1:
        raise ValueError("more than one of counts, odds and floors; a score is of one kind")

    if floors is not None:
        beneath = _scores(floors, "floor")
        if beneath.shape != before.shape:
            raise ValueError(f"{len(beneath)} floors for {len(before)} items; give one for every item")
        floor = math.fsum(beneath) / len(beneath)
        evidence = floored_evidence(before, after, beneath, codes, alpha, seed, asked)
    elif (tables := odds_of(*odds, len(before))) is not None:
        floor = CHANCE
        evidence = odds_evidence(*tables, codes, alpha, seed, asked)
    else:
        evidence = _evidence(before, after, counts, codes, alpha, seed, asked)

    points = asked.at(evidence.base, floor)
    able = evidence.base_lower > floor
    outcome = _outcome(evidence.drop, evidence.limits, evidence.harm, points) if able else Outcome.INCONCLUSIVE
    kept = evidence.kept
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
        kept=None if kept is None else kept.share,
        kept_lower=None if kept is None else kept.lower,
        kept_upper=None if kept is None else kept.upper,
    )


def _evidence(
    before: Floats,
    after: Floats,
    counts: tuple[ArrayLike | None, ArrayLike | None],
    codes: Codes,
    alpha: float,
    seed: int,
    asked: Margin,
) -> Evidence:
    """The evidence of scores whose floor is one number."""
    if counts[0] is not None and counts[1] is not None:
        tables = _counts(counts[0], len(before)), _counts(counts[1], len(before))
        if tables[0].shape != tables[1].shape:
            raise ValueError(f"counts of shapes {tables[0].shape} and {tables[1].shape}; count the same in both models")
        return bootstrap_evidence(as_ratios(tables[0]), as_ratios(tables[1]), codes, alpha, seed, asked)
    if counts[0] is not None or counts[1] is not None:
        raise ValueError("counts of only one model; give base_counts and edited_counts, or neither")
    if not isinstance(asked, Retained) and np.isin([before, after], (0, 1)).all():
        return binary_evidence(before, after, codes, alpha)
    return bootstrap_evidence(as_means(before), as_means(after), codes, alpha, seed, asked)


def _outcome(drop: float, limits: Limits, harm: float, margin: float) -> Outcome:
    if limits.upper <= margin:
        return Outcome.PASS
    return Outcome.FAIL if limits.lower > margin or (drop > margin and harm > 0) else Outcome.INCONCLUSIVE


def _more_items(evidence: Evidence, margin: float, n: int) -> int | None:
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
