"""Before the run: what margin can be certified, and what drop would be seen, with so many items.

    plan_scores(277, 0.1, binary=True)       any ability, from what is known of its items before the run
    plan_binary(277, discordance=0.1)        0/1 scores; discordance: share of items whose score changes, either way
    plan_graded(819, deviation=0.06)         scores in [0, 1] and corpus metrics; deviation: sd of the items' drops
    assumed_deviation(0.1, change=0.3)       that sd, if a tenth of the answers change, by 0.3 points each
    observed_deviation(base, edited)         that sd, from an earlier run

0/1 scores: the exact probability, the sum over all numbers of lost and gained items of those that pass. The usual
formula (z_(1-alpha) + z_power) sqrt(discordance / n) is its limit for many changed items; with few, it promises what
the score interval cannot hold. All others: the normal approximation with Student's quantile.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from audit.errors import AuditError
from audit.verdicts.bootstrap import contrast_of, standard_error
from audit.verdicts.distributions import normal_quantile, t_quantile
from audit.verdicts.intervals import Floats, corrected_statistic, effective_clusters, paired_limits, resolution

_FEW = 10  # changed clusters, below which coins may bound the drop more closely than a bootstrap


@dataclass(frozen=True)
class Plan:
    """What `units` independent items or clusters can say, with probability `power`; score points.

    smallest_margin  would be certified (PASS) if nothing got worse
    smallest_drop    would be seen (the lower limit of the drop above 0)
    None where no number up to 1 would do.
    """

    units: float
    smallest_margin: float | None
    smallest_drop: float | None
    power: float
    alpha: float

    def sentence(self, margin: float) -> str:
        """What the plan means for the margin that is asked for."""
        seen = "no drop would be seen" if self.smallest_drop is None else f"a drop of {self.smallest_drop:.3f} is seen"
        if self.smallest_margin is None or self.smallest_margin > margin:
            least = "none" if self.smallest_margin is None else f"{self.smallest_margin:.3f}"
            return f"a margin of {margin:g} is too small for this many items (smallest: {least}); {seen}"
        return f"a margin of {margin:g} can be certified (smallest: {self.smallest_margin:.3f}); {seen}"


def plan_scores(
    items: int,
    discordance: float,
    *,
    binary: bool,
    change: float = 0.3,
    clusters: Sequence[str] | None = None,
    alike: float = 0.25,
    corpus_weights: Sequence[float] | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
) -> Plan:
    """Plan any ability: `items` items, of which a share `discordance` is expected to change, either way.

    `binary`: each item is right or wrong; otherwise what changes does so by `change` points (root mean square).
    `clusters` names each item's source, as `judge` takes it; a share `alike` of the variance lies between sources.
    `corpus_weights`, for a corpus metric: what each item adds to its denominator (its gold entities).
    Raises `AuditError` for no items, and for names or weights that are not one for every item.
    """
    for what, given in (("cluster keys", clusters), ("weights", corpus_weights)):
        if given is not None and len(given) != _at_least_one(items):
            raise AuditError(f"{len(given)} {what} to plan {items} items with; give one for every item")
    sizes = [1] * items if clusters is None else list(Counter(clusters).values())
    effect = assumed_effect(sizes, alike)
    if binary and corpus_weights is None:
        return plan_binary(items, discordance, effect=effect, power=power, alpha=alpha)
    units, deviation = max(1, math.floor(items / effect)), assumed_deviation(discordance, change, corpus_weights)
    return plan_graded(units, deviation, discordance=discordance, power=power, alpha=alpha)


def plan_binary(n: int, discordance: float, *, effect: float = 1.0, power: float = 0.8, alpha: float = 0.05) -> Plan:
    """For n items with 0/1 scores; `effect` is the design effect of shared sources (`assumed_effect`)."""
    units = max(1, math.floor(_at_least_one(n) / effect))
    outcomes = _outcomes(units, discordance, 0.0)
    margin = _smallest(lambda points: _certified(outcomes, units, points, alpha), power)
    drop = _smallest(lambda points: power_to_see(units, discordance, points, alpha=alpha), power)
    return Plan(units, margin, drop, power, alpha)


def plan_graded(
    clusters: int, deviation: float, *, discordance: float = 1.0, power: float = 0.8, alpha: float = 0.05
) -> Plan:
    """For `clusters` independent items or sources whose drops have the standard deviation `deviation`.

    `discordance` is the share of them that change at all: where few do, the interval is wider than the deviation says.
    """
    cases = _cases(_at_least_one(clusters), deviation, discordance, alpha)
    margin = _smallest(lambda points: _reached(cases, clusters, points, alpha), power)
    return Plan(clusters, margin, margin, power, alpha)  # the interval is as far below as above


def power_binary(n: int, discordance: float, margin: float, drop: float = 0.0, alpha: float = 0.05) -> float:
    """P(PASS) for n items with 0/1 scores whose true drop is `drop`; exact but for a tail of 1e-12."""
    return _certified(_outcomes(n, discordance, drop), n, margin, alpha)


def _certified(outcomes: tuple[Floats, Floats, Floats], n: int, margin: float, alpha: float) -> float:
    lost, gained, chance = outcomes
    passes = corrected_statistic(lost, gained, n, margin) <= -normal_quantile(1 - alpha)
    return float(chance[passes & ((lost - gained) / n + resolution(n, alpha) <= margin)].sum())


def power_to_see(n: int, discordance: float, drop: float, alpha: float = 0.05) -> float:
    """P(the lower limit is above 0) for n items with 0/1 scores whose true drop is `drop`; exact likewise."""
    lost, gained, chance = _outcomes(n, discordance, drop)
    sees = corrected_statistic(lost, gained, n, 0.0) > normal_quantile(1 - alpha)
    return float(chance[sees & ((lost - gained) / n > resolution(n, alpha))].sum())


def power_graded(
    clusters: int, deviation: float, margin: float, drop: float = 0.0, discordance: float = 1.0, alpha: float = 0.05
) -> float:
    """P(PASS), averaged over the number K of clusters that happen to change, which is binomial.

    Given K, the estimate is normal with the error e = deviation sqrt(K / discordance) / clusters, and its upper limit
    lies t_(K - 1) e above it, as K numbers are all that is known of e; or nearer, where the coins bound it.
    Within 3 points of simulation where ten or more changes are expected; with fewer it promises up to 15 too many.
    """
    cases = _cases(_at_least_one(clusters), deviation, discordance, alpha)
    return _reached(cases, clusters, margin - drop, alpha)


class _Case(NamedTuple):
    chance: float  # of so many changed clusters
    error: float  # of the estimated drop then
    reach: float  # from it to its upper limit


def _cases(clusters: int, deviation: float, discordance: float, alpha: float) -> list[_Case]:
    change = deviation / math.sqrt(max(discordance, 1e-12))  # the root mean square of what changed
    middle, spread = clusters * discordance, 6 * math.sqrt(clusters * discordance * (1 - discordance)) + 4
    cases = []
    for count in range(max(0, math.floor(middle - spread)), min(clusters, math.ceil(middle + spread)) + 1):
        if discordance >= 1:
            chance = float(count == clusters)
        else:
            ways = math.lgamma(clusters + 1) - math.lgamma(count + 1) - math.lgamma(clusters - count + 1)
            logs = count * math.log(max(discordance, 1e-300)) + (clusters - count) * math.log1p(-discordance)
            chance = math.exp(ways + logs)
        error = change * math.sqrt(count) / clusters
        reach = t_quantile(1 - alpha, count - 1) * error if count > 1 else math.inf
        if count < _FEW:  # half of E|x| on either side, which is 0.8 of a normal deviation
            lost = min(0.4 * change * count, clusters / 2)
            reach = min(reach, paired_limits(lost, lost, clusters, alpha).upper)
        cases.append(_Case(chance, error, reach))
    return cases


def _reached(cases: Sequence[_Case], clusters: int, room: float, alpha: float) -> float:
    normal, least, chance = NormalDist(), resolution(clusters, alpha), 0.0
    for case in cases:
        left = room - max(case.reach, least)
        chance += case.chance * (normal.cdf(left / case.error) if case.error > 0 else float(left >= 0))
    return chance


def assumed_deviation(discordance: float, change: float, weights: Sequence[float] | None = None) -> float:
    """The sd of drops if a share `discordance` of the items changes, by `change` points (root mean square).

    For a corpus metric `weights` are what the items add to its denominator (the gold entities of each sentence): a
    sentence with many entities moves it more.
    """
    spread = 1.0
    if weights is not None:
        numbers = np.asarray(weights, dtype=np.float64)
        if not numbers.size or numbers.sum() <= 0:
            raise AuditError("no weights above 0 to plan a corpus metric with; give the gold entities of each sentence")
        spread = float(np.mean(np.square(numbers / numbers.mean())))
    return change * math.sqrt(discordance * spread)


def observed_deviation(base: Floats, edited: Floats) -> float:
    """The same from an earlier run: (clusters, 2 ratios) tables as `audit.verdicts.bootstrap` takes them."""
    return float(standard_error(contrast_of(base, edited))) * math.sqrt(len(base))


def assumed_effect(sizes: ArrayLike, alike: float) -> float:
    """The design effect of clusters of these sizes if a share `alike` of the variance lies between them (ICC)."""
    numbers = np.asarray(sizes, dtype=np.float64)
    return 1 + (float(numbers.sum()) / effective_clusters(numbers) - 1) * alike


def smallest_margin(n: int, discordance: float, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The quick formula, for tables: (z_(1-alpha) + z_power) sqrt(discordance / n), never below `resolution(n)`."""
    quantiles = normal_quantile(1 - alpha) + normal_quantile(power)
    return max(quantiles * math.sqrt(discordance / n), resolution(n, alpha))


def _outcomes(n: int, discordance: float, drop: float) -> tuple[Floats, Floats, Floats]:
    """All likely numbers of lost and gained items, and their probability; (lost, gained) grids."""
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
    return lost, gained, np.where(rest >= 0, np.exp(logs), 0.0)


def _log_factorial(counts: Floats) -> Floats:
    table = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, counts.max() + 1)))])
    return np.asarray(table[counts.astype(int)])


def _smallest(chance: Callable[[float], float], power: float) -> float | None:
    """The smallest number of points, to 1e-5, at which a chance that rises with it reaches `power`."""
    low, high = 0.0, 0.999
    if chance(high) < power:
        return None
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if chance(middle) >= power else (middle, high)
    return high


def _at_least_one(n: int) -> int:
    if n < 1:
        raise AuditError(f"{n} items cannot be planned with; ask at least one")
    return n
