"""A studentized paired bootstrap over clusters, for differences of means, of corpus F1s, of recalls by class.

Every score that is not 0/1 by item is a weighted sum of ratios of totals here, theta = sum_k a_k U_k / V_k with
U_k = sum_c u_ck and V_k = sum_c v_ck over the clusters c: a mean has u = score and v = items, an F1 has u = 2 TP and
v = 2 TP + FP + FN. Its linear part gives a standard error (Cochran 1977, section 6.5; Miller 2024, appendix A):

    se^2 = C / (C - 1) sum_c L_c^2,    L_c = sum_k a_k (u_ck - U_k / V_k v_ck) / V_k

and whole clusters drawn with replacement give the distribution of t* = (theta* - theta) / se*, whose quantiles take
the place of Student's (Efron and Tibshirani 1993, section 12.5; Hall 1992, section 3.6):

    upper = theta - t*_(alpha) se,     lower = theta - t*_(1 - alpha) se

With edits most differences are exactly 0 and the others lie mostly on one side. The percentile interval, whose tails
point the wrong way there, passes such a drop too often; this one does not (benchmarks/verdict_error_rates.py).

Changes that the sample does not show. For scores in [0, 1], every upper limit that is valid for all distributions lies
at least r = 1 - alpha^(1/C) (about 3 / C) above the estimate when no large loss is seen: a share r of the clusters can
lose everything and stay out of the sample with probability alpha. The betting and empirical-Bernstein limits of
Waudby-Smith and Ramdas (2024) are no exception: when all x_i are near 0, their wealth prod (1 + l (m - x_i)) with
l < 1 / (1 - m) reaches 1 / alpha only for m near 3 / C. So a limit that adapts to small changes must assume something
about the size of unseen ones. With 95 % confidence their share is at most r, and `Changes.unseen` adds r times a bound
on their mean size:

    fewer than 10 clusters changed    1: no assumption, since so few changes say too little about sizes.
    else, gains                       2 M, where M is the largest change seen. A tail that falls at least as fast as
                                      1 / t^2, the slowest with a finite variance, has a mean beyond M of at most 2 M.
    else, losses                      the larger of 2 M and h. An edit can break a few answers that have nothing to do
                                      with the small changes of all others, and they can lose all that they had. h is
                                      the mean base score, weighted by base score: sum b^2 / sum b, the unit in which
                                      random total losses are counted (the scaled Poisson distribution of Bohm and
                                      Zech 2014).

So the upper limit, which decides PASS, keeps its error whatever unseen answers lose, as long as those that break are
not picked for their high base scores. Scores near 1 pay for it: with h = 1 the upper limit is as far as for 0/1 scores.
The lower limit, which decides FAIL, does not allow for large gains of a share below r.

For likelihoods, whose items have floors f, and for the AUC of log-odds (`audit.verdicts.heights`), broken answers are
assumed to fall to their floors: the height above the floor, weighted by itself, takes the place of 1 and of h.
benchmarks/verdict_error_rates.py has designs of all these kinds.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audit.verdicts.intervals import (
    Codes,
    Floats,
    Limits,
    corrected_statistic,
    normal_quantile,
    paired_limits,
    recall_by_class_of,
    resolution,
    t_quantile,
)
from audit.verdicts.random_groups import in_random_groups

RESAMPLES = 9_999  # so that alpha (RESAMPLES + 1) is a whole number for the usual alphas
_CELLS_AT_ONCE, _CELLS_KEPT = 4_000_000, 10_000_000  # resamples x clusters: 32 MB of indices, 20 MB of counts
_NOTHING = 1e-14  # a variance below this is rounding
FEW_CHANGES = 10  # clusters; of fewer changes, the largest says nothing about those that were not seen


class Contrast(NamedTuple):
    """theta = sum_k weights_k sum_c numerators_ck / sum_c denominators_ck; (clusters, ratios[, runs]) each."""

    numerators: Floats
    denominators: Floats
    weights: Floats  # (ratios,)


class Changes(NamedTuple):
    """What an edit changed: the input of `unseen`.

    changed  how many clusters
    largest  the largest share of the drop of one of them, in points of a cluster of mean size
    height   the mean base score of the clusters, weighted by base score; in [0, 1]
    """

    changed: float
    largest: float
    height: float = 1.0

    def unseen(self, clusters: float, alpha: float) -> Limits:
        """The least distances (below, above) of the limits from the estimate, for changes that no cluster shows."""
        least = resolution(clusters, alpha)
        if self.changed < FEW_CHANGES:
            return Limits(least, least)
        tail = min(1.0, 2 * self.largest)
        return Limits(tail * least, max(self.height, tail) * least)

    @property
    def step(self) -> float:
        """Half a change, where there are few: if they are all alike, the drop moves in such steps, like a count."""
        return 0.5 * self.largest if self.changed < FEW_CHANGES else 0.0


class PairedLimits(NamedTuple):
    """Limits of kept * base - edited, the lower limit of base, and the standard error of the former."""

    limits: Limits
    base_lower: float
    error: float


def as_ratios(counts: Floats) -> Floats:
    """(..., 3) counts of an F1 -> (..., 2) of numerator and denominator; pairs stay as they are."""
    if counts.shape[-1] != 3:
        return counts
    doubled = 2 * counts[..., 0]
    return np.stack([doubled, doubled + counts[..., 1] + counts[..., 2]], axis=-1)


def as_means(scores: Floats) -> Floats:
    """(n,) scores -> (n, 2): the numerators and denominators that they add to their mean."""
    return np.stack([scores, np.ones_like(scores)], axis=1)


def contrast_of(base: Floats, edited: Floats, kept: float = 1.0) -> Contrast:
    """The contrast kept * score(base) - score(edited), of (clusters, 2 ratios) tables, mean of its ratios.

    A ratio whose base denominators are all 0 (an absent class) is left out of the mean.
    """
    there = (base[:, 1::2].sum(axis=0) > 0) | (edited[:, 1::2].sum(axis=0) > 0)  # (ratios,)
    first, over = base[:, 0::2][:, there], base[:, 1::2][:, there]  # (clusters, ratios)
    second, under = edited[:, 0::2][:, there], edited[:, 1::2][:, there]
    weight = np.full(first.shape[1], 1 / max(1, first.shape[1]))
    if np.array_equal(over, under):  # the same denominators: one ratio of the differences
        return Contrast(kept * first - second, over, weight)
    return Contrast(np.hstack([first, second]), np.hstack([over, under]), np.concatenate([kept * weight, -weight]))


def influences(contrast: Contrast) -> Floats:
    """L_c: (clusters, ratios[, runs]) tables -> (clusters[, runs]), with sum 0."""
    u, v, a = contrast
    whole = v.sum(axis=0)
    ratio = _divided(u.sum(axis=0), whole)
    return np.asarray(np.einsum("k,ck...->c...", a, _divided(u - ratio * v, np.broadcast_to(whole, u.shape))))


def standard_error(contrast: Contrast) -> Floats:
    """The cluster-robust standard error of theta; infinite for a single cluster."""
    clusters = len(contrast.numerators)
    if clusters < 2:
        return np.full(contrast.numerators.shape[2:], np.inf)
    squares = np.square(influences(contrast)).sum(axis=0)
    return np.asarray(np.sqrt(np.where(squares < _NOTHING, 0.0, squares) * clusters / (clusters - 1)))


def pivot_quantiles(
    contrast: Contrast, alpha: float, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[Floats, Floats]:
    """The alpha and 1 - alpha quantiles of t*, taken outwards; -+ inf where too few resamples hold any change.

    Tables with a last axis of runs give (runs,) quantiles, all from the same draws (for simulations).
    """
    u, v, a = contrast
    clusters, ratios, *runs = u.shape
    whole = v.sum(axis=0)
    e = u - _divided(u.sum(axis=0), whole) * v  # (clusters, ratios, runs): residuals, so that sums lose no digits
    pairs = [(k, m) for k in range(ratios) for m in range(ratios)]
    columns = [e, v, *(np.stack([x[:, k] * y[:, m] for k, m in pairs], 1) for x, y in ((e, e), (e, v), (v, v)))]
    table = np.concatenate(columns, axis=1).reshape(clusters, -1)
    count = 2 * ratios + 3 * len(pairs)

    statistics = []
    for times in _drawn(clusters, resamples, seed):
        sums = (times @ table).reshape(len(times), count, *runs)
        total = sums[:, ratios : 2 * ratios]  # V*_k
        shift = _divided(sums[:, :ratios], total)  # (b, ratios, runs): U*_k / V*_k - U_k / V_k
        slope = _divided(np.broadcast_to(a.reshape(-1, *(1 for _ in runs)), total.shape), total)  # a_k / V*_k
        ee, ev, vv = np.split(sums[:, 2 * ratios :], 3, axis=1)
        square = np.zeros((len(times), *runs))
        for number, (k, m) in enumerate(pairs):
            product = ee[:, number] - 2 * shift[:, m] * ev[:, number] + shift[:, k] * shift[:, m] * vv[:, number]
            square += slope[:, k] * slope[:, m] * product
        square *= clusters / max(1, clusters - 1)
        moved = np.einsum("k,bk...->b...", a, shift)
        moved[np.abs(moved) < np.sqrt(_NOTHING)] = 0.0
        spread = np.sqrt(np.where(square < _NOTHING, 0.0, square))
        with np.errstate(divide="ignore", invalid="ignore"):
            statistics.append(np.where(moved == 0, 0.0, moved / spread))  # nothing over nothing is no evidence
    return outer_quantiles(np.concatenate(statistics), alpha)


def outer_quantiles(pivots: Floats, alpha: float) -> tuple[Floats, Floats]:
    """The alpha and 1 - alpha quantiles of (resamples[, runs]) pivots, taken outwards."""
    place = max(1, int(alpha * (len(pivots) + 1) + 1e-9)) - 1
    other = len(pivots) - 1 - place
    ordered = np.partition(pivots, (place, other), axis=0)
    return ordered[place], ordered[other]


def studentized(contrast: Contrast, alpha: float, seed: int = 0, carriers: int | None = None) -> tuple[Limits, float]:
    """Limits of theta, as distances from it (below, above), and its standard error.

    Few clusters carry little of the tails, so no limit is nearer than Student's with one degree of freedom less than
    there are `carriers`: clusters that contribute to theta, all if left out.
    """
    error = float(standard_error(contrast))
    if not 0 < error < np.inf:
        return Limits(error, error), error
    grouped = Contrast(in_random_groups(contrast[0], seed), in_random_groups(contrast[1], seed), contrast.weights)
    low, high = pivot_quantiles(grouped, alpha, seed)
    student = t_quantile(1 - alpha, (len(contrast[0]) if carriers is None else carriers) - 1)
    return Limits(error * max(float(high), student), error * max(-float(low), student)), error


def shares_of_drop(base: Floats, edited: Floats) -> Floats:
    """(clusters,) what each cluster contributes to the drop, to first order; their sum is the drop."""
    u, v, a = contrast_of(base, edited)
    drop, reach = float((a * _divided(u.sum(axis=0), v.sum(axis=0))).sum()), reach_of_clusters(base, edited)
    return influences(Contrast(u, v, a)) + drop * reach / max(float(reach.sum()), 1e-300)


def reach_of_clusters(base: Floats, edited: Floats) -> Floats:
    """(clusters,) the most that each cluster can move the drop; zeros where no ratio has a denominator."""
    heights = np.maximum(base[:, 1::2], edited[:, 1::2])  # (clusters, ratios)
    least = np.minimum(base[:, 1::2].sum(axis=0), edited[:, 1::2].sum(axis=0))
    there = least > 0
    return np.asarray((heights[:, there] / least[there]).mean(axis=1)) if there.any() else np.zeros(len(base))


def changes_of(base: Floats, edited: Floats) -> Changes:
    """The changes between two (clusters, 2 ratios) tables."""
    changed = (base != edited).any(axis=1)
    if not changed.any():
        return Changes(0, 0.0)
    above, below = base[:, 0::2].sum(axis=1), base[:, 1::2].sum(axis=1)
    height = float((above * _divided(above, below)).sum()) / max(float(above.sum()), 1e-300)
    return Changes(int(changed.sum()), len(base) * float(np.abs(shares_of_drop(base, edited)[changed]).max()), height)


def bounded_by_coins(base: Floats, edited: Floats, alpha: float, span: float = 1.0) -> Limits:
    """The limits if all that changed had changed by as much as one cluster can: distances (below, above) of the drop.

    No variable in [0, b] of a given mean varies more than one that is 0 or b. So each cluster's share of the drop is
    counted as that fraction of a pair lost or gained, in units of the largest share b that a cluster can have, and
    the score interval of 0/1 scores bounds it. Needed where so few clusters changed that resamples hold none of them.
    `span`: of what an item can add to a ratio of 1 in the denominator; 1 for scores in [0, 1].
    """
    clusters, coins = len(base), _coins(base, edited, span)
    if coins is None:
        return Limits(2 * span, 2 * span)  # farther than any score
    lost, gained, unit = coins
    limits = paired_limits(lost, gained, clusters, alpha)
    middle = (lost - gained) / clusters
    return Limits((middle - limits.lower) * clusters * unit, (limits.upper - middle) * clusters * unit)


def nearer_by_coins(distances: Limits, base: Floats, edited: Floats, alpha: float, span: float = 1.0) -> Limits:
    """The smaller ones of these distances and of those of `bounded_by_coins`, which are computed only if they are."""
    clusters, coins = len(base), _coins(base, edited, span)
    if coins is not None:
        lost, gained, unit = coins
        middle, z = (lost - gained) / clusters, normal_quantile(1 - alpha)
        places = np.array([middle - distances.lower / clusters / unit, middle + distances.upper / clusters / unit])
        if places[0] > -1 and places[1] < 1:
            statistics = corrected_statistic(lost, gained, clusters, places)
            if (np.abs(statistics) <= z).all():  # the coins' limits, where it is z, are farther
                return distances
    nearer = bounded_by_coins(base, edited, alpha, span)
    return Limits(min(distances.lower, nearer.lower), min(distances.upper, nearer.upper))


def _coins(base: Floats, edited: Floats, span: float) -> tuple[float, float, float] | None:
    """The pairs lost, those gained, and what one is worth; None where they say nothing."""
    unit, clusters = span * float(reach_of_clusters(base, edited).max()), len(base)
    if clusters < 2 or not unit:
        return None
    shares = shares_of_drop(base, edited)
    lost, gained = float(shares[shares > 0].sum()) / unit, -float(shares[shares < 0].sum()) / unit
    return None if lost + gained > clusters else (lost, gained, unit)


def paired_bootstrap(
    base: Floats, edited: Floats, alpha: float = 0.05, seed: int = 0, kept: float = 1.0
) -> PairedLimits:
    """Limits of kept * score(base) - score(edited), and the lower limit of score(base).

    `base` and `edited` are (clusters, 2 ratios) sums; whole clusters are drawn, the same ones for both. The rows are
    sorted first and drawn by a seeded generator, so the order of items does not change the result.

    No limit is nearer to its estimate than `Changes.unseen` allows, and none is farther than `bounded_by_coins` says.
    The lower limit of the base score is never nearer than `resolution(clusters)`.
    """
    order = canonical_order(base, edited)
    base, edited = base[order], edited[order]
    contrast = contrast_of(base, edited, kept)
    estimate = kept * float(recall_by_class_of(base.sum(axis=0))) - float(recall_by_class_of(edited.sum(axis=0)))
    changes = changes_of(base, edited)
    least = changes.unseen(len(base), alpha)
    carriers = int((base * np.tile([kept, 1.0], base.shape[1] // 2) != edited).any(axis=1).sum())
    (below, above), error = studentized(contrast, alpha, seed, carriers)
    nothing = base * np.tile([0.0, 1.0], base.shape[1] // 2)  # a score of 0: only the denominators
    # A share of 0/1 scores, whose sums are whole numbers, has the step of `corrected_statistic`.
    whole = kept != 1 and np.array_equal(base, np.rint(base)) and np.array_equal(edited, np.rint(edited))
    step = (0.2 if whole else changes.step) / len(base)
    below, above = below + step, above + step
    if kept != 1:
        # (base - edited) - (1 - kept) base, each limit at half of alpha
        drop, score = (bounded_by_coins(base, other, alpha / 2) for other in (edited, nothing))
        coins = Limits(drop.lower + (1 - kept) * score.upper, drop.upper + (1 - kept) * score.lower)
    else:
        coins = bounded_by_coins(base, edited, alpha)
    below, above = min(below, coins.lower), min(above, coins.upper)
    limits = Limits(max(-1.0, estimate - max(below, least.lower)), min(1.0, estimate + max(above, least.upper)))

    (base_below, _), _ = studentized(contrast_of(base, nothing), alpha, seed)
    base_below = min(base_below, bounded_by_coins(base, nothing, alpha).lower)
    base_score = float(recall_by_class_of(base.sum(axis=0)))
    base_lower = max(0.0, base_score - max(base_below, resolution(len(base), alpha)))
    return PairedLimits(limits, base_lower, error)


def canonical_order(base: Floats, edited: Floats) -> Codes:
    """An order of the rows of two tables that depends neither on theirs nor on which of the tables comes first."""
    there, back = np.hstack([base, edited]), np.hstack([edited, base])
    order, other = np.lexsort(there.T[::-1]), np.lexsort(back.T[::-1])
    return other if there[order].tolist() > back[other].tolist() else order


def _drawn(clusters: int, resamples: int, seed: int) -> Iterator[Floats]:
    """(resamples at once, clusters) tables of how often each cluster is drawn."""
    draw = _drawn_once if clusters * resamples <= _CELLS_KEPT else _draws
    for table in draw(clusters, resamples, seed):
        yield table.astype(np.float64)


@lru_cache(maxsize=2)  # a verdict has several intervals, all from the same draws
def _drawn_once(clusters: int, resamples: int, seed: int) -> list[NDArray[np.integer[Any]]]:
    return [table.astype(np.uint16) for table in _draws(clusters, resamples, seed)]


def _draws(clusters: int, resamples: int, seed: int) -> Iterator[NDArray[np.integer[Any]]]:
    generator, at_once = np.random.default_rng(seed), max(1, _CELLS_AT_ONCE // clusters)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = generator.integers(0, clusters, (size, clusters)) + clusters * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters)


def _divided(above: Floats, below: Floats) -> Floats:
    """0 where there is nothing to divide by."""
    return np.divide(above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below != 0)
