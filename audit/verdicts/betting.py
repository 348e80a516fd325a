"""Test by betting: e-values for a mean of bounded numbers, valid at any time (Waudby-Smith and Ramdas, 2024).

Hypothesis: the numbers x_1, x_2, ... have a mean of at most 0. Wealth starts at 1 and is multiplied by 1 + l x_i for
each number. With x_i >= -b and 0 < l < 1 / b it stays positive, and under the hypothesis its expectation does not grow:
E_t is a nonnegative supermartingale that starts at 1, so that (Ville's inequality)

    P(there is a t with E_t >= 1 / alpha) <= alpha,        E_t = sum_k w_k prod_(i <= t) (1 + l_k x_i),  sum_k w_k = 1

for any number of looks and any rule for stopping. The mixture over fixed stakes l_k needs no guess of the effect size.
Most good edits change next to no answer, and then the largest stake grows fastest. So it gets half of the first wealth,
the next smaller one half of the rest, and so on; the mixture is behind stake k by a factor of at most 1 / w_k. The
numbers must be bounded and in random order, which a seeded permutation provides.

Items that share a source are not independent, so the stakes are on whole clusters, and must suit the largest one: one
cluster of two items among two hundred of one would halve every stake. So at most `cap` items of each cluster count, by
the cluster's mean, and all others are granted to the hypothesis at their most extreme value. With S items in all
clusters, A of them counted, and no number above h,

    mean of all >= c   only if   mean of those counted >= (c S - h (S - A)) / A.

The cap with the largest growth for an unchanged model is chosen before the first answer, from the sizes alone. This
takes the cluster sizes as given: those of the items at hand are the sizes that "items like these" have.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audit.verdicts.intervals import Codes, Floats, cluster_codes

_BOLDEST = 0.95
_STAKES = _BOLDEST * 0.7 ** np.arange(8)  # of 1 / b; the smallest suits a margin of a tenth of the discordance
_SHARES = 0.5 ** np.minimum(np.arange(1, 9), 7)  # of the first wealth; they sum to 1
_NARROWEST = 0.05  # a bound near 0 (a floor of 0) would allow stakes without limit; none above 20 is needed


class Wealth:
    """The log-wealth of K fixed stakes, over one sequence or over many runs at once.

    wealth = Wealth(bound=1 - margin)
    wealth.bet(margin - drops)           # (..., t) further numbers, in [-bound, infinity)
    wealth.now >= log(1 / alpha)         # the hypothesis that their mean is at most 0 is refuted

    `now` is log E_t after the last number, `highest` its maximum so far; shape (...).
    """

    def __init__(self, bound: float) -> None:
        self._stakes = _STAKES / max(bound, _NARROWEST)  # (K,)
        self._logs: Floats = np.log(_SHARES)  # (..., K)
        self._seen = 0
        self.now: Floats = np.zeros(())
        self.highest: Floats = np.zeros(())

    def bet(self, numbers: Floats) -> None:
        """Add (..., t) numbers, in order; t > 0."""
        steps = np.log1p(numbers[..., None] * self._stakes)  # (..., t, K)
        paths = np.cumsum(steps, axis=-2) + self._logs[..., None, :]
        self._logs = paths[..., -1, :]
        self._seen += numbers.shape[-1]
        top = paths.max(axis=-1)
        mixed = top + np.log(np.exp(paths - top[..., None]).sum(axis=-1))  # (..., t): log E
        self.now = mixed[..., -1]
        self.highest = np.maximum(self.highest, mixed.max(axis=-1))

    def steps_to(self, enough: float, number: float | None, most: int) -> int:
        """The number of further numbers until log E is `enough`, if all are `number` (None: if growth stays as it is).

        At most `most`. For a single run.
        """
        so_far = (self._logs - np.log(_SHARES)) / max(1, self._seen)
        growth = so_far if number is None else np.log1p(number * self._stakes)  # (K,)

        def reached(steps: int) -> bool:
            return bool(np.logaddexp.reduce(self._logs + steps * growth) >= enough)

        few, many = 0, most
        while reached(many) and many - few > 1:  # convex in the steps, so it is reached once
            middle = (few + many) // 2
            few, many = (few, middle) if reached(middle) else (middle, many)
        return many


@dataclass(frozen=True)
class Counted:
    """The cap on the counted items of a cluster, and the numbers of items S and counted items A (as above)."""

    cap: int
    items: int  # S
    counted: int  # A
    clusters: int

    @classmethod
    def of(
        cls, clusters_by_size: Sequence[int], least: float, highest: float = 1.0, unchanged: float | None = None
    ) -> "Counted":
        """The best cap against "the mean is at least `least`", for numbers up to `highest` that are `unchanged`.

        `clusters_by_size` are the numbers of clusters of one item, of two, and so on. `unchanged`: by default
        `highest` - 1.
        """
        number = highest - 1 if unchanged is None else unchanged
        sizes = np.arange(1, len(clusters_by_size) + 1)
        numbers = np.asarray(clusters_by_size)
        items, clusters = int(sizes @ numbers), int(numbers.sum())

        def growth(counts: Counted) -> float:
            line = counts.line(least, highest)
            gain = _BOLDEST * (line - number) / max(highest - line, _NARROWEST)
            return float(numbers @ np.log1p(np.maximum(gain, 0.0) * np.minimum(sizes, counts.cap) / counts.cap))

        caps = sizes[::-1][numbers[::-1] > 0].tolist()
        counted = [cls(cap, items, int(np.minimum(sizes, cap) @ numbers), clusters) for cap in caps]
        return max(counted, key=growth, default=cls(len(sizes), items, items, clusters))

    def line(self, least: float, highest: float) -> float:
        """The least mean of the counted items if the mean of all items is at least `least`."""
        return (least * self.items - highest * (self.items - self.counted)) / self.counted


class Against:
    """Bets that the mean of numbers up to `highest` is below `least`.

    against = Against(margin, 1.0, counted)
    against.bet(drops, sizes)            # (..., clusters) further sums of numbers, and (clusters,) sizes
    against.wealth.now >= log(1 / alpha) # the hypothesis that the mean is at least `least` is refuted
    """

    def __init__(self, least: float, highest: float, counted: Counted) -> None:
        self._counted = counted
        self._line = counted.line(least, highest)
        self.wealth = Wealth(highest - self._line)

    def bet(self, sums: Floats, sizes: Floats) -> None:
        """Add whole clusters, in order."""
        weights = np.minimum(sizes, self._counted.cap)
        self.wealth.bet((self._line - sums / sizes) * weights / self._counted.cap)

    def clusters_to(self, enough: float, mean: float | None, most: int) -> int:
        """The number of further clusters of this mean (None: as so far) until log E is `enough`; at most `most`."""
        counted = self._counted
        number = None if mean is None else (self._line - mean) * (counted.counted / (counted.clusters * counted.cap))
        return self.wealth.steps_to(enough, number, most)


def anytime_upper(sums: Floats, sizes: Floats, counted: Counted, alpha: float, highest: float = 1.0) -> float:
    """The upper limit, valid at any time, of the mean of numbers in [-1, highest]: the least mean that is rejected.

    `sums` and `sizes` are (clusters,) sums and numbers of items. Every factor 1 + l (c - x) / (highest - c) rises with
    c, and with it the wealth, so bisection finds the limit.
    """
    low, high = -1.0, highest
    for _ in range(50):
        least = (low + high) / 2
        against = Against(least, highest, counted)
        against.bet(sums, sizes)
        low, high = (low, least) if against.wealth.now >= -math.log(alpha) else (least, high)
    return high


def visiting_order(clusters: Sequence[str], seed: int) -> list[Codes]:
    """The items of each cluster, in the order of asking (`clusters` has one name an item).

    A seeded permutation of the clusters, which depends only on their number, their names and the seed.
    """
    if not len(clusters):
        return []
    keys = cluster_codes(clusters, len(clusters))
    order = np.random.default_rng(seed).permutation(int(keys.max()) + 1)
    place = np.argsort(order)[keys]  # the position of each item's cluster
    items = np.argsort(place, kind="stable")
    return np.split(items, np.flatnonzero(np.diff(place[items])) + 1)
