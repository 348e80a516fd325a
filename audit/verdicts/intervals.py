"""One-sided limits of paired 0/1 scores: Tango's score interval, and its version for items that share a source.

Also Wilson's limit of one proportion, the distributions behind them, and corpus metrics from sums.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


def normal_quantile(probability: float) -> float:
    """The standard normal's quantile; 1.645 at 0.95."""
    return NormalDist().inv_cdf(probability)


def t_quantile(probability: float, freedom: float) -> float:
    """Student's quantile with `freedom` > 0 degrees of freedom, to 1e-10; infinite for none."""
    if freedom <= 0:
        return math.copysign(math.inf, probability - 0.5)
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    low, high = 0.0, 1.0
    while t_upper_tail(high, freedom) > 1 - probability:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_upper_tail(middle, freedom) > 1 - probability else (low, middle)
    return high


def t_upper_tail(value: float, freedom: float) -> float:
    """P(T >= value) for Student's T with `freedom` degrees of freedom."""
    tail = 0.5 * incomplete_beta(freedom / 2, 0.5, freedom / (freedom + value * value))
    return tail if value >= 0 else 1 - tail


def binomial_upper_tail(least: int, trials: int, probability: float = 0.5) -> float:
    """P(X >= least) for X of `trials` at `probability`, exact."""
    if least <= 0:
        return 1.0
    if least > trials:
        return 0.0
    return incomplete_beta(least, trials - least + 1, probability)


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function I_x(a, b), by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - incomplete_beta(b, a, 1 - x)
    log_front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    tiny = 1e-300
    numerator, denominator = 1.0, 1 - (a + b) * x / (a + 1)
    denominator = 1 / (denominator if abs(denominator) > tiny else tiny)
    fraction = denominator
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            denominator = 1 + step * denominator
            denominator = 1 / (denominator if abs(denominator) > tiny else tiny)
            numerator = 1 + step / numerator
            numerator = numerator if abs(numerator) > tiny else tiny
            fraction *= denominator * numerator
        if abs(denominator * numerator - 1) < 1e-15:
            break
    return math.exp(log_front) * fraction / a


Floats = NDArray[np.float64]
Codes = NDArray[np.intp]  # (n,) the number of each item's cluster


class Limits(NamedTuple):
    """Two one-sided limits, each with confidence 1 - alpha; together a two-sided interval at 1 - 2 alpha."""

    lower: float
    upper: float


def resolution(n: float, alpha: float = 0.05) -> float:
    """1 - alpha^(1/n): the upper limit of a share that none of n items shows (about 3 / n at 95 %).

    The exact binomial limit at 0 of n. The score limits there, Wilson's and Tango's, are z^2 / (n + z^2), about
    2.7 / n, which has an error of 0.067; the errors at all other counts are at most 0.054.
    """
    return -math.expm1(math.log(alpha) / n)


def wilson_lower(right: float, n: float, alpha: float = 0.05, quantile: float | None = None) -> float:
    """Wilson's (1927) one-sided lower limit of a proportion `right / n`, by default with the normal quantile."""
    z, share = normal_quantile(1 - alpha) if quantile is None else quantile, right / n
    center = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (center - spread) / (1 + z * z / n))


def tango_statistic(lost: ArrayLike, gained: ArrayLike, pairs: ArrayLike, drop: ArrayLike) -> Floats:
    """Tango's (1998, eq. 5) score statistic for the hypothesis that the true drop is `drop`, in (-1, 1); elementwise.

    With p21 the probability of a gain under the hypothesis, its maximum-likelihood value solves
    2n q^2 + B q + C = 0, and the variance of (lost - gained) / n is (2q + drop - drop^2) / n.
    """
    lost, gained, pairs, drop = (np.asarray(value, dtype=np.float64) for value in (lost, gained, pairs, drop))
    linear = -lost - gained + (2 * pairs - lost + gained) * drop
    constant = -gained * drop * (1 - drop)
    root = np.sqrt(np.maximum(0.0, linear * linear - 8 * pairs * constant))
    gain = (root - linear) / (4 * pairs)
    variance = pairs * np.maximum(0.0, 2 * gain + drop * (1 - drop))
    distance = lost - gained - pairs * drop
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(distance == 0, 0.0, distance / np.sqrt(variance)))


def corrected_statistic(lost: ArrayLike, gained: ArrayLike, pairs: ArrayLike, drop: ArrayLike) -> Floats:
    """Tango's statistic with lost - gained moved towards its expectation, as it can only be a whole number.

    By 0.2 where it lies on the side of 0 (as for PASS, with a positive margin), else by 0.7. Summed exactly over n from
    60 to 1000, discordances from 2 to 20 % and drops up to the discordance, the error of the uncorrected limits exceeds
    5 % by up to 1 point on the one side and 5 on the other, where the distribution is skewed; that of these by 0.1.
    """
    lost, gained, pairs, drop = (np.asarray(value, dtype=np.float64) for value in (lost, gained, pairs, drop))
    distance = lost - gained - pairs * drop
    step = np.where(distance * drop < 0, 0.2, 0.7) * (lost + gained > 0)  # at none, `resolution` is exact
    left = 1 - step / np.maximum(np.abs(distance), 1e-300)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(left > 0, tango_statistic(lost, gained, pairs, drop) * left, 0.0))


def paired_limits(lost: float, gained: float, pairs: float, alpha: float = 0.05) -> Limits:
    """Limits of the drop (lost - gained) / pairs by `corrected_statistic`, none nearer than `resolution(pairs)`.

    `lost` pairs are right before and wrong after, `gained` the reverse; the counts may be fractions.
    """
    limits = inverted(corrected_statistic, lost, gained, pairs, normal_quantile(1 - alpha))
    return _at_least(limits, (lost - gained) / pairs, resolution(pairs, alpha))


def inverted(statistic: Callable[..., Floats], lost: float, gained: float, pairs: float, quantile: float) -> Limits:
    """The drops at which a statistic is +quantile and -quantile.

    With Tango's own statistic and no discordant pair they are -+ z^2 / (pairs + z^2), where Wald's have no width.
    """
    estimate = (lost - gained) / pairs

    # The statistic falls as the hypothesized drop rises: bisect for +z below the estimate and for -z above it.
    def bisect(inside: float, outside: float) -> float:
        for _ in range(50):
            middle = (inside + outside) / 2
            if abs(float(statistic(lost, gained, pairs, middle))) <= quantile:
                inside = middle
            else:
                outside = middle
        return outside

    lower = -1.0 if estimate == -1 else bisect(estimate, -1.0)
    upper = 1.0 if estimate == 1 else bisect(estimate, 1.0)
    return Limits(lower, upper)


def _at_least(limits: Limits, drop: float, least: float) -> Limits:
    return Limits(max(-1.0, min(limits.lower, drop - least)), min(1.0, max(limits.upper, drop + least)))


def cluster_codes(clusters: Sequence[str] | None, n: int) -> Codes:
    """The (n,) numbers of the items' clusters, in the order of their names; without names, one cluster an item."""
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} cluster keys for {n} items; give one for every item")
    return np.unique(np.asarray(clusters, dtype=str), return_inverse=True)[1]


def cluster_sums(values: Floats, codes: Codes) -> Floats:
    """(n,) or (n, k) values and the (n,) numbers of their clusters -> sums of (clusters,) or (clusters, k)."""
    if values.ndim == 1:
        return np.asarray(np.bincount(codes, weights=values), dtype=np.float64)
    return np.stack([cluster_sums(column, codes) for column in values.T], axis=1)


def effective_clusters(sizes: ArrayLike) -> float:
    """(sum m)^2 / sum m^2 of the clusters' sizes m: their number if they are alike, fewer if some are large (Kish)."""
    sizes = np.asarray(sizes, dtype=np.float64)
    return float(sizes.sum() ** 2 / np.square(sizes).sum())


def design_effect(sums: ArrayLike, sizes: ArrayLike, squares: ArrayLike) -> Floats:
    """The variance of the mean of clustered items, divided by that of independent items; at least 1.

    `sums` are (..., clusters) sums of the items' values, `sizes` (clusters,) their numbers, `squares` (...) the sum of
    the values' squares. The ratio of the cluster-robust to the naive sum of squares (Rao and Scott, Biometrics 48,
    1992, 577-585). One more cluster, of the size that the cluster of an item has on average, is added to both as
    changed as a whole: if few items changed and no two of them share a cluster, clusters may matter all the same.
    """
    totals, sizes = np.asarray(sums, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    clusters, n = len(sizes), float(sizes.sum())
    if clusters < 2:
        return np.full(totals.shape[:-1], n)
    mean, size = totals.sum(axis=-1) / n, float(np.square(sizes).sum()) / n
    robust = clusters / (clusters - 1) * np.square(totals - mean[..., None] * sizes).sum(axis=-1)
    return np.asarray(np.maximum(1.0, (robust + size * size) / (squares - n * mean * mean + size)))


def clustered_limits(lost: ArrayLike, gained: ArrayLike, sizes: ArrayLike, alpha: float = 0.05) -> Limits:
    """`paired_limits` where items share sources; (clusters,) numbers of pairs lost, gained and in all.

    All counts are divided by the design effect, Student's quantile with one degree of freedom less than effective
    clusters replaces the normal one, and no limit is nearer than `resolution` of the clusters. Never narrower than
    `paired_limits` on the items.
    """
    lost, gained, sizes = (np.asarray(value, dtype=np.float64) for value in (lost, gained, sizes))
    effect = float(design_effect(lost - gained, sizes, (lost + gained).sum()))
    clusters, n = effective_clusters(sizes), float(sizes.sum())
    quantile = t_quantile(1 - alpha, clusters - 1)
    if math.isinf(quantile):
        return Limits(-1.0, 1.0)
    counts = float(lost.sum()) / effect, float(gained.sum()) / effect, n / effect
    limits = inverted(corrected_statistic, *counts, quantile)
    return _at_least(limits, float((lost - gained).sum()) / n, resolution(clusters, alpha))


def clustered_wilson_lower(right: ArrayLike, sizes: ArrayLike, alpha: float = 0.05) -> float:
    """Wilson's lower limit where items share sources; (clusters,) numbers of right items and of all, as above."""
    right, sizes = np.asarray(right, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    total, n = float(right.sum()), float(sizes.sum())
    effect = float(design_effect(right, sizes, total))
    quantile = t_quantile(1 - alpha, effective_clusters(sizes) - 1)
    return 0.0 if math.isinf(quantile) else wilson_lower(total / effect, n / effect, quantile=quantile)


def f1_of(sums: Floats) -> Floats:
    """(..., 3) sums of (true positives, false positives, misses) -> (...) F1 = 2 TP / (2 TP + FP + FN).

    Nothing to find and nothing found is 0, as in seqeval.
    """
    doubled = 2 * sums[..., 0]
    whole = doubled + sums[..., 1] + sums[..., 2]
    return np.divide(doubled, whole, out=np.zeros_like(whole), where=whole > 0)


def recall_by_class_of(sums: Floats) -> Floats:
    """(..., 2 classes) sums of (found, there to be found) for every class -> (...) mean recall over the classes.

    A class of which nothing is there to be found is left out of the mean.
    """
    found, there = sums[..., 0::2], sums[..., 1::2]  # (..., classes)
    recall = np.divide(found, there, out=np.zeros_like(there), where=there > 0)
    classes = (there > 0).sum(axis=-1)
    return np.asarray(recall.sum(axis=-1) / np.maximum(classes, 1))
