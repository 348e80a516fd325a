"""Betting against a hypothesis: evidence that may be looked at after every item (Waudby-Smith and Ramdas, 2024).

To test that numbers x_1, x_2, ... have a mean of at most 0, start with 1 and stake on each that it is above 0: wealth
is multiplied by 1 + l x_i. With x_i >= -b and 0 < l < 1 / b it stays positive, and if the hypothesis holds, nobody
expects to get richer: E_t is a nonnegative supermartingale from 1, so that (Ville's inequality)

    P(there is a t with E_t >= 1 / alpha) <= alpha,        E_t = 1/K sum_k prod_(i <= t) (1 + l_k x_i)

however often one looks and whenever one stops. The mixture over K fixed stakes needs no guess of how large the effect
is. Nothing is assumed of the x_i but their bound and that they come in random order: one seeded permutation.

Items that share a source are no independent bets. The bettor stakes on whole clusters then: x_c is the sum over the
items of cluster c, divided by the size of the largest cluster that there is, so the bound b stays the same.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit.verdicts.intervals import Floats

_STAKES = 0.95 * 0.7 ** np.arange(8)  # of 1 / b; the smallest suits a margin of a tenth of the discordance

Order = NDArray[np.intp]


class Wealth:
    """The log-wealth of K bettors, each with a fixed stake, over one sequence or over many runs of it at once.

    wealth = Wealth(bound=1 - margin)
    wealth.bet(margin - drops)           # (..., t) further numbers, in [-bound, infinity)
    wealth.now >= log(1 / alpha)         # the hypothesis that their mean is at most 0 is refuted

    `now` is log E_t after the last number, `highest` its maximum so far; shape (...).
    """

    def __init__(self, bound: float) -> None:
        # A bound near 0 (a floor of 0) would allow stakes without limit; of those, none above 20 is needed.
        self._stakes = _STAKES / max(bound, 0.05)  # (K,)
        self._logs: Floats = np.zeros(len(_STAKES))  # (..., K)
        self.now: Floats = np.zeros(())
        self.highest: Floats = np.zeros(())

    def bet(self, numbers: Floats) -> None:
        """Add (..., t) numbers, in order."""
        if not numbers.shape[-1]:
            return
        steps = np.log1p(numbers[..., None] * self._stakes)  # (..., t, K)
        paths = np.cumsum(steps, axis=-2) + self._logs[..., None, :]
        self._logs = paths[..., -1, :]
        top = paths.max(axis=-1)
        mixed = top + np.log(np.exp(paths - top[..., None]).mean(axis=-1))  # (..., t): log E
        self.now = mixed[..., -1]
        self.highest = np.maximum(self.highest, mixed.max(axis=-1))


def units(values: Floats, sizes: Floats, shift: float, largest: int) -> Floats:
    """x_c = (sum of cluster c's values - its size * shift) / largest, from (..., clusters) sums and sizes."""
    return np.asarray((values - sizes * shift) / largest)


def anytime_upper(values: Floats, sizes: Floats, largest: int, alpha: float, highest: float = 1.0) -> float:
    """The upper limit of the mean of numbers in [-1, highest], at any time: the least shift that the bettors refute.

    `values` and `sizes` are (clusters,) sums and numbers of items. Every factor 1 + l (shift - x) / (highest - shift)
    rises with the shift, and with it the wealth, so bisection finds the limit.
    """
    low, high = -1.0, highest
    for _ in range(50):
        shift = (low + high) / 2
        wealth = Wealth(highest - shift)
        wealth.bet(-units(values, sizes, shift, largest))
        low, high = (low, shift) if wealth.now >= -np.log(alpha) else (shift, high)
    return high


def visiting_order(clusters: Sequence[str] | None, n: int, block: int, seed: int) -> list[Order]:
    """The order in which `n` items are asked: blocks of whole clusters, each of at least `block` items but the last.

    A seeded permutation of the clusters, which depends on nothing but their number, their names and the seed.
    """
    keys = np.arange(n) if clusters is None else np.unique(np.asarray(clusters, dtype=str), return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(int(keys.max()) + 1) if n else np.arange(0)
    place = np.argsort(order)[keys] if n else keys  # when each item's cluster comes
    items = np.argsort(place, kind="stable")
    ends = np.flatnonzero(np.diff(place[items], append=-1)) + 1  # after each cluster
    blocks, start = [], 0
    for end in ends.tolist():
        if end - start >= block or end == n:
            blocks.append(items[start:end])
            start = end
    return blocks
