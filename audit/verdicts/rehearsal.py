"""Rehearsal: simulated runs of items that change as a design expects, with the limits that `judge` would give them.

    runs = rehearse(Design(200, discordance=0.05), drop=0.0)
    runs.certify(0.03)       the probability of an upper limit within 0.03
    runs.see()               that of a lower limit above 0

Only changed clusters move an estimate. Their number K is binomial (nearly so where sources differ in size), and its
probabilities are computed, not simulated. For every likely K a few runs are drawn, and their limits are computed as in
`audit.verdicts.bootstrap` and `audit.verdicts.intervals`. Unchanged clusters are not stored: a bootstrap over n
clusters needs only the number of times that it draws each of the K. Where many change, and evenly, Hall's expansion
replaces the resamples.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from audit.errors import AuditError
from audit.verdicts.bootstrap import Changes, outer_quantiles
from audit.verdicts.intervals import (
    Codes,
    Floats,
    cluster_codes,
    cluster_sums,
    corrected_statistic,
    effective_clusters,
    normal_quantile,
    resolution,
    t_quantile,
)

_DRAWN = 10_000  # changed clusters
_CELLS = 2_000_000  # items drawn for them at most


@dataclass(frozen=True)
class Design:
    """Raises `AuditError` for values out of range.

    items        how many
    discordance  the share of them that is expected to change, either way
    change       the size of a change in points: the root mean square, or what `power.observed_change` returns
    binary       0/1 scores, which change by 1
    clusters     (items,) each item's source, as `judge` takes it
    alike        the correlation of two items of one source (ICC)
    weights      (items,) for a corpus metric: what each adds to its denominator, such as its gold entities
    loss         for scores that are not 0/1: a true drop is made of more items, which lose so many points each (times
                 their weight), such as the base score: all that they have. None: `change` holds the losses of that
                 drop, and the direction of the changes makes it
    """

    items: int
    discordance: float
    change: float | tuple[float, ...] = 0.3
    binary: bool = False
    clusters: tuple[str, ...] | None = None
    alike: float = 0.25
    weights: tuple[float, ...] | None = None
    loss: float | None = None

    def __post_init__(self) -> None:
        if self.items < 1:
            raise AuditError(f"{self.items} items; give at least one")
        for what, given in (("cluster keys", self.clusters), ("weights", self.weights)):
            if given is not None and len(given) != self.items:
                raise AuditError(f"{len(given)} {what} for {self.items} items; give one for every item")
        for what, share in (("discordance", self.discordance), ("likeness", self.alike)):
            if not 0 <= share <= 1:
                raise AuditError(f"a {what} of {share}; give a share from 0 to 1")
        if self.weights is not None and not (min(self.weights) >= 0 and sum(self.weights) > 0):
            raise AuditError("no weights above 0 for a corpus metric; give the gold entities of each sentence")
        changes = np.abs(np.atleast_1d(self.change))
        # Observed changes may be above 1: a large item can move a corpus metric by more than 1 / n.
        highest = math.inf if isinstance(self.change, tuple) else 1.0
        if not (changes.size and np.isfinite(changes).all() and 0 < changes.max() <= highest):
            raise AuditError(f"a change of {self.change} points; give one above 0, at most 1")
        if self.loss is not None and not 0 < self.loss <= 1:
            raise AuditError(f"a loss of {self.loss} points; give one above 0, at most 1")
        if self.binary and self.weights is not None:
            raise AuditError("0/1 scores of a corpus metric; give either binary or the weights")

    @property
    def exact(self) -> bool:
        """Whether all outcomes can be counted: independent 0/1 scores."""
        return self.binary and (self.clusters is None or len(set(self.clusters)) == self.items)


class ChangedClusters(NamedTuple):
    """A sample of changed clusters, and the sizes of all clusters."""

    share: float  # of the clusters that changes
    chance: Floats  # (drawn,) of each to be drawn
    lost: Floats  # (drawn,) points that the items of a changed cluster lose
    gained: Floats
    sizes: Floats  # (drawn,) its items, or their weights
    every: Floats  # (clusters,) the same of all clusters


def drawn_changes(design: Design, drop: float, generator: np.random.Generator) -> ChangedClusters:
    """Clusters of a design that changed, where the true drop is `drop` >= 0."""
    weights = np.ones(design.items) if design.weights is None else np.asarray(design.weights, dtype=np.float64)
    weights = weights / weights.mean()
    points = np.ones(1) if design.binary else _sizes(design.change)
    discordance, loss, lean, broken = design.discordance, design.loss or 0.0, 0.0, 0.0

    def scale(weight: Floats) -> Floats:
        return np.ones_like(weight) if isinstance(design.change, tuple) else np.sqrt(weight)

    if loss and drop > 0:
        share = min(1.0, drop / loss)  # of the items, those that lose it
        discordance += share * (1 - discordance)
        broken = share / discordance
    elif drop > 0:
        mean = float(points.mean() * scale(weights).mean())
        if drop > discordance * mean:  # more items change, and if all do, by more
            discordance, points = min(1.0, drop / mean), points * max(1.0, drop / mean)
        lean = drop / (discordance * float(points.mean() * scale(weights).mean()))

    def moves(shape: tuple[int, int], weight: Floats) -> Floats:
        signs = np.where(generator.random(shape) < (1 + lean) / 2, 1.0, -1.0)
        moved = signs * generator.choice(points, shape) * scale(weight)
        return np.where(generator.random(shape) < broken, loss * weight, moved) if broken else moved

    if design.clusters is None:
        chosen = _evenly(generator, design.items, _DRAWN)
        return _changes(discordance, drop, moves((_DRAWN, 1), weights[chosen, None]), weights[chosen], weights)

    codes = cluster_codes(design.clusters, design.items)
    sizes, every = np.bincount(codes), cluster_sums(weights, codes)
    largest = int(sizes.max())
    there = np.arange(largest) < sizes[:, None]  # (clusters, items of the largest)
    table = np.zeros((len(sizes), largest))
    table[there] = weights[np.argsort(codes, kind="stable")]

    # An item changes as its source does with probability `bound`; two items both do with its square, `alike`.
    bound = math.sqrt(design.alike)
    alone = (1 - bound) * (1 - discordance)  # an item that does not follow its source, and stays
    stays = (1 - discordance) * (bound + alone) ** sizes + discordance * alone**sizes  # (clusters,)
    share = 1 - float(stays.mean())
    number = 1 + int(min(_DRAWN / max(share, 1e-9), _CELLS / largest))
    chosen, shape = _evenly(generator, len(sizes), number), (number, largest)
    common = moves((number, 1), table[chosen]) * (generator.random((number, 1)) < discordance)
    own = moves(shape, table[chosen]) * (generator.random(shape) < discordance)
    moved = np.where(generator.random(shape) < bound, common, own) * there[chosen]
    changed = (moved != 0).any(axis=1)
    return _changes(share, drop, moved[changed], every[chosen[changed]], every)


def _changes(share: float, drop: float, moved: Floats, sizes: Floats, every: Floats) -> ChangedClusters:
    """`moved`: (drawn, items) points. The chances are tilted so that the mean is exactly the drop."""
    if not (share > 0 and len(moved)):  # none changed: one that stays
        return ChangedClusters(0.0, np.ones(1), np.zeros(1), np.zeros(1), every[:1], every)
    sums = moved.sum(axis=1)
    spread = max(float(np.square(sums - sums.mean()).sum()), 1e-300)
    chance = 1 / len(sums) + (drop * every.mean() / share - sums.mean()) * (sums - sums.mean()) / spread
    chance = np.maximum(0.0, chance)
    lost, gained = np.maximum(moved, 0).sum(axis=1), np.maximum(-moved, 0).sum(axis=1)
    return ChangedClusters(share, chance / chance.sum(), lost, gained, sizes, every)


def _evenly(generator: np.random.Generator, clusters: int, number: int) -> Codes:
    """`number` places below `clusters`, each about as often."""
    return generator.permutation(np.resize(np.arange(clusters), -(-number // clusters) * clusters))[:number]


def _sizes(change: float | tuple[float, ...]) -> Floats:
    """The sizes of changes: evenly spread from 0, or up to 1 where that is not enough for `change`."""
    if isinstance(change, tuple):
        return np.abs(np.asarray(change, dtype=np.float64))
    low, high = 0.0, math.sqrt(3) * change
    if high > 1:  # (1 + low + low^2) / 3 = change^2
        low, high = (math.sqrt(12 * change * change - 3) - 1) / 2, 1.0
    return low + (high - low) * (np.arange(1_000) + 0.5) / 1_000


RUNS = 6_000  # over all K: at most 0.7 points of Monte Carlo error, and less as K is counted exactly
_AT_ONCE = 64  # runs that share their resamples
_RESAMPLES = 999
_MANY = 20  # changed clusters; from here on Hall's expansion replaces the resamples (within 1.3 points of power),
_SKEWED = 0.25  # unless skewness moves the quantiles by more than this


class _Limits(NamedTuple):
    """(runs,) drops and what limits them."""

    drop: Floats
    above: Floats  # from the drop to the bootstrap's upper limit; infinite where there is no bootstrap
    below: Floats
    lost: Floats  # what a score interval counts, of `pairs`, each worth `unit` / `pairs` points
    gained: Floats
    pairs: Floats
    least_above: Floats  # no upper limit is nearer
    least_below: Floats


class Rehearsal(NamedTuple):
    """Limits of many runs, and how likely each run is."""

    chance: Floats  # (runs,)
    limits: _Limits
    unit: float
    quantile: float  # of the score interval
    resolution: float  # its limits are no nearer, in units

    def certify(self, margin: float) -> float:
        """P(the upper limit is within the margin)."""
        drop, above, _, lost, gained, pairs, least, _ = self.limits
        counted = np.ones(drop.shape, dtype=bool)  # a score interval ends at 1 unit
        if margin < self.unit:
            statistic = corrected_statistic(lost, gained, pairs, margin / self.unit)
            counted = (statistic <= -self.quantile) & (drop + self.unit * self.resolution <= margin)
        within = (drop + above <= margin) | counted
        return float(self.chance[within & (drop + least <= margin)].sum())

    def see(self) -> float:
        """P(the lower limit is above 0)."""
        drop, _, below, lost, gained, pairs, _, least = self.limits
        statistic = corrected_statistic(lost, gained, pairs, 0.0)
        counted = (statistic > self.quantile) & (drop > self.unit * self.resolution)
        return float(self.chance[(drop > least) & ((drop > below) | counted)].sum())


def rehearse(design: Design, drop: float = 0.0, alpha: float = 0.05, seed: int = 0, runs: int = RUNS) -> Rehearsal:
    """About `runs` runs of a design whose true drop is `drop`; the same seed gives the same runs.

    For independent 0/1 scores, every outcome with its exact probability.
    """
    if design.exact:
        return _outcomes(design.items, design.discordance, drop, alpha)
    generator = np.random.default_rng(seed)
    changes = drawn_changes(design, drop, generator)
    clusters = len(changes.every)
    limited: Callable[[Codes], _Limits]
    if design.binary:
        independent = effective_clusters(changes.every)
        unit, quantile = 1.0, t_quantile(1 - alpha, independent - 1)
        limited = partial(_counted, changes, least=resolution(independent, alpha))
    else:
        independent = clusters
        unit, quantile = float(changes.every.max() / changes.every.mean()), normal_quantile(1 - alpha)
        limited = partial(_bootstrapped, changes, design.loss or 1.0, alpha=alpha, generator=generator)
    chances: list[Floats] = []
    limits: list[_Limits] = []
    for count, chance in _numbers(clusters, changes.share):
        size = max(4, round(runs * chance))
        for start in range(0, size, _AT_ONCE):
            some = min(_AT_ONCE, size - start)
            limits.append(limited(generator.choice(len(changes.lost), (count, some), p=changes.chance)))
            chances.append(np.full(some, chance / size))
    all_limits = _Limits(*(np.concatenate(column) for column in zip(*limits, strict=True)))
    return Rehearsal(np.concatenate(chances), all_limits, unit, quantile, resolution(independent, alpha))


def _numbers(clusters: int, share: float) -> Iterator[tuple[int, float]]:
    """The possible numbers of changed clusters with their probabilities, all but a tail of 1e-4."""
    if not 0 < share < 1:
        yield round(clusters * share), 1.0
        return
    middle, spread = clusters * share, 6 * math.sqrt(clusters * share * (1 - share)) + 10
    for count in range(max(0, math.floor(middle - spread)), min(clusters, math.ceil(middle + spread)) + 1):
        ways = math.lgamma(clusters + 1) - math.lgamma(count + 1) - math.lgamma(clusters - count + 1)
        chance = math.exp(ways + count * math.log(share) + (clusters - count) * math.log1p(-share))
        if chance > 1e-5:
            yield count, chance


def _bootstrapped(
    changes: ChangedClusters, height: float, drawn: Codes, *, alpha: float, generator: np.random.Generator
) -> _Limits:
    """The limits of `paired_bootstrap` where the (K, runs) clusters `drawn` changed and no denominator did."""
    n, count, mean = len(changes.every), len(drawn), float(changes.every.mean())
    moves = (changes.lost[drawn] - changes.gained[drawn]) / mean  # the drop is their sum / n
    drop, squares = moves.sum(axis=0) / n, np.square(moves).sum(axis=0)
    around = np.maximum(0.0, squares - n * drop * drop)  # about the drop, over all n
    error = np.sqrt(around / (n - 1) / n) if n > 1 else np.full(drop.shape, math.inf)
    # Hall (1992), section 3.3: the skewness moves both quantiles of t* the same way.
    z = normal_quantile(1 - alpha)
    cubes = (moves**3).sum(axis=0) - 3 * drop * squares + 2 * n * drop**3
    skew = cubes / np.maximum(around, 1e-100) ** 1.5 * (2 * z * z + 1) / 6
    low, high = -z - skew, z - skew
    rough = (np.abs(skew) > _SKEWED) | (count < _MANY)  # (runs,)
    if rough.any():
        times = generator.multinomial(n, [1 / n] * count + [max(0.0, 1 - count / n)], size=_RESAMPLES)[:, :-1]
        low[rough], high[rough] = _pivot_quantiles(times.astype(np.float64), moves[:, rough], n, drop[rough], alpha)
    student = t_quantile(1 - alpha, count - 1)
    with np.errstate(invalid="ignore"):  # 0 times an infinite quantile, where nothing varies
        above, below = (np.where(error > 0, error * np.maximum(q, student), 0.0) for q in (-low, high))
    seen = [Changes(count, size, height) for size in np.abs(moves).max(axis=0, initial=0.0)]
    step = np.array([one.step for one in seen]) / n
    largest = float(changes.every.max()) / mean  # what `bounded_by_coins` counts as one pair
    lost, gained = np.maximum(moves, 0).sum(axis=0) / largest, np.maximum(-moves, 0).sum(axis=0) / largest
    least = np.array([one.unseen(n, alpha) for one in seen])  # (runs, below and above)
    return _Limits(
        drop, above + step, below + step, lost, gained, np.full(drop.shape, float(n)), least[:, 1], least[:, 0]
    )


def _pivot_quantiles(times: Floats, moves: Floats, n: int, drop: Floats, alpha: float) -> tuple[Floats, Floats]:
    """The alpha and 1 - alpha quantiles of t*; (resamples, K) counts of draws, (K, runs) moves."""
    mean = times @ moves / n  # (resamples, runs)
    around = times @ np.square(moves) - n * mean * mean
    moved = np.where(np.abs(mean - drop) < 1e-10, 0.0, mean - drop)
    with np.errstate(divide="ignore", invalid="ignore"):
        pivots = moved / np.sqrt(np.where(around < 1e-12, 0.0, around) / max(1, n - 1) / n)
    pivots[moved == 0] = 0.0  # nothing over nothing is no evidence
    return outer_quantiles(pivots, alpha)


def _counted(changes: ChangedClusters, drawn: Codes, least: float) -> _Limits:
    """The input of `clustered_limits` for the (K, runs) clusters `drawn`: changed items over the design effect."""
    clusters, n = len(changes.every), float(changes.every.sum())
    lost, gained, sizes = changes.lost[drawn], changes.gained[drawn], changes.sizes[drawn]
    sums, changed = lost - gained, (lost + gained).sum(axis=0)
    drop, size = sums.sum(axis=0) / n, float(np.square(changes.every).sum()) / n
    robust = np.square(sums).sum(axis=0) - 2 * drop * (sums * sizes).sum(axis=0) + drop * drop * size * n
    robust = robust * clusters / max(1, clusters - 1)
    effect = np.maximum(1.0, (robust + size * size) / (changed - n * drop * drop + size))
    never, near = np.full(drop.shape, np.inf), np.full(drop.shape, least)
    return _Limits(drop, never, never, lost.sum(axis=0) / effect, gained.sum(axis=0) / effect, n / effect, near, near)


def _outcomes(n: int, discordance: float, drop: float, alpha: float) -> Rehearsal:
    """All likely numbers of lost and gained items among n independent ones, instead of runs drawn."""
    changed = max(discordance, abs(drop))
    shares = (changed + drop) / 2, (changed - drop) / 2
    ranges = []
    for share in shares:
        spread = 8 * math.sqrt(n * share) + 20
        ranges.append(np.arange(max(0, math.floor(n * share - spread)), min(n, math.ceil(n * share + spread)) + 1))
    lost, gained = (grid.astype(np.float64) for grid in np.meshgrid(*ranges, indexing="ij"))
    rest = n - lost - gained
    logs = math.lgamma(n + 1) - _log_factorial(lost) - _log_factorial(gained) - _log_factorial(np.maximum(rest, 0))
    for count, share in ((lost, shares[0]), (gained, shares[1]), (rest, 1 - changed)):
        logs = logs + count * math.log(max(share, 1e-300))  # 0 where such items are impossible and there are none
    chance, moved = np.where(rest >= 0, np.exp(logs), 0.0), (lost - gained) / n
    never = np.full(moved.shape, np.inf)
    quantile, least = normal_quantile(1 - alpha), resolution(n, alpha)
    pairs, near = np.full(moved.shape, float(n)), np.full(moved.shape, least)
    return Rehearsal(chance, _Limits(moved, never, never, lost, gained, pairs, near, near), 1.0, quantile, least)


def _log_factorial(counts: Floats) -> Floats:
    table = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, counts.max() + 1)))])
    return np.asarray(table[counts.astype(int)])
