"""One-sided limits: Tango's score interval for paired 0/1 scores, a paired (cluster) bootstrap for the rest.

tango            limits of a paired difference of proportions
wilson_lower     lower limit of one proportion
resolution       the least uncertainty that n items can carry, by either
paired_bootstrap limits of a difference of means or of corpus F1s, and the lower limit of the first
mean_of, f1_of   the two statistics, from sums
smallest_margin  what a planned run can certify
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_RESAMPLES = 10_000
_CELLS_AT_ONCE = 4_000_000  # resamples x clusters drawn in one go: 32 MB of indices


class Limits(NamedTuple):
    """Two one-sided limits, each with confidence 1 - alpha; together a two-sided interval at 1 - 2 alpha."""

    lower: float
    upper: float


def normal_quantile(probability: float) -> float:
    """The standard normal's quantile; 1.645 at 0.95."""
    return NormalDist().inv_cdf(probability)


def resolution(n: float, alpha: float = 0.05) -> float:
    """z^2 / (n + z^2): how large a change in n items may be of which not one changed.

    Wilson's limit at 0 of n and Tango's at no discordant pair are both this number (about 2.7 / n at 95 %).
    """
    z = normal_quantile(1 - alpha)
    return z * z / (n + z * z)


def wilson_lower(right: float, n: float, alpha: float = 0.05) -> float:
    """Wilson's (1927) one-sided lower limit of a proportion `right / n`."""
    z = normal_quantile(1 - alpha)
    share = right / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z * z / n))


def tango_statistic(lost: float, gained: float, pairs: float, drop: float) -> float:
    """Tango's (1998, eq. 5) score statistic for the hypothesis that the true drop is `drop`, in (-1, 1).

    With p21 the probability of a gain under the hypothesis, its maximum-likelihood value solves
    2n q^2 + B q + C = 0, and the variance of (lost - gained) / n is (2q + drop - drop^2) / n.
    """
    linear = -lost - gained + (2 * pairs - lost + gained) * drop
    constant = -gained * drop * (1 - drop)
    root = math.sqrt(max(0.0, linear * linear - 8 * pairs * constant))
    gain = (root - linear) / (4 * pairs)
    variance = pairs * max(0.0, 2 * gain + drop * (1 - drop))
    distance = lost - gained - pairs * drop
    if variance > 0:
        return distance / math.sqrt(variance)
    return 0.0 if distance == 0 else math.copysign(math.inf, distance)


def tango(lost: float, gained: float, pairs: float, alpha: float = 0.05) -> Limits:
    """Tango's score limits of the drop (lost - gained) / pairs; Tango, Statistics in Medicine 17 (1998) 891-908.

    `lost` pairs are right before and wrong after, `gained` the reverse. Without any discordant pair the limits are
    -+ `resolution(pairs)`, where Wald's interval has no width. Counts may be fractions (a run that is only planned).
    """
    z = normal_quantile(1 - alpha)
    estimate = (lost - gained) / pairs

    # The statistic falls as the hypothesised drop rises: bisect for +z below the estimate and for -z above it.
    def bisect(inside: float, outside: float, target: float) -> float:
        for _ in range(60):
            middle = (inside + outside) / 2
            if abs(tango_statistic(lost, gained, pairs, middle)) <= target:
                inside = middle
            else:
                outside = middle
        return outside

    lower = -1.0 if estimate == -1 else bisect(estimate, -1.0, z)
    upper = 1.0 if estimate == 1 else bisect(estimate, 1.0, z)
    return Limits(lower, upper)


def mean_of(sums: Floats) -> Floats:
    """(..., 2) sums of (score, items) -> (...) means."""
    return np.asarray(sums[..., 0] / sums[..., 1])


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


def paired_bootstrap(
    base: Floats, edited: Floats, statistic: Callable[[Floats], Floats], alpha: float = 0.05, seed: int = 0
) -> tuple[Limits, float]:
    """Percentile limits of statistic(base) - statistic(edited), and the lower limit of statistic(base).

    `base` and `edited` are (clusters, k) sums; whole clusters are drawn, the same ones for both (Miller 2024). The
    rows are sorted first and drawn by a seeded generator, so neither the order of items nor a swap of the two (but for
    the sign) changes the result.

    A bootstrap cannot see what its sample does not hold: with no change, or one, its interval has next to no width.
    So no limit is nearer to its estimate than `resolution(clusters)`.
    """
    clusters, columns = base.shape
    rows = _sorted(np.concatenate([base, edited], axis=1))  # (clusters, 2k)
    swapped = _sorted(np.concatenate([edited, base], axis=1))
    mirrored = rows.tolist() > swapped.tolist()
    if mirrored:
        rows = swapped

    drawn = _resampled_sums(rows, seed)  # (resamples, 2k)
    first, second = statistic(drawn[:, :columns]), statistic(drawn[:, columns:])
    if mirrored:
        first, second = second, first
    low, high = np.quantile(first - second, [alpha, 1 - alpha])
    base_low = np.quantile(first, alpha)

    base_score = float(statistic(base.sum(axis=0)))
    drop = base_score - float(statistic(edited.sum(axis=0)))
    least = resolution(clusters, alpha)
    limits = Limits(max(-1.0, min(float(low), drop - least)), min(1.0, max(float(high), drop + least)))
    return limits, max(0.0, min(float(base_low), base_score - least))


def _sorted(rows: Floats) -> Floats:
    return rows[np.lexsort(rows.T[::-1])]


def _resampled_sums(rows: Floats, seed: int) -> Floats:
    """(clusters, columns) -> (resamples, columns): sums over clusters drawn with replacement."""
    clusters = len(rows)
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // clusters)
    sums = []
    for start in range(0, _RESAMPLES, at_once):
        size = min(at_once, _RESAMPLES - start)
        drawn = generator.integers(0, clusters, (size, clusters)) + clusters * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters)
        sums.append(times @ rows)  # (size, clusters) @ (clusters, columns)
    return np.concatenate(sums)


def smallest_margin(n: int, discordance: float, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest margin that n items certify with probability `power` if nothing got worse, for 0/1 scores.

    `discordance` is the share of items whose score changes, either way. (z_{1-alpha} + z_power) sqrt(discordance / n),
    and never below `resolution(n)`.
    """
    quantiles = normal_quantile(1 - alpha) + normal_quantile(power)
    return max(quantiles * math.sqrt(discordance / n), resolution(n, alpha))
