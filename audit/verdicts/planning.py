"""Before the run: what margin can be certified, and what drop would be seen, with so many items.

    plan_scores(277, 0.1, binary=True)           any ability, from what is known of its items before the run
    plan_scores(200, 0.1, binary=False, change=0.5, corpus_weights=gold_entities)
    observed_change(base, edited)                what `change` was in an earlier run

Independent 0/1 scores: exact, the sum over all numbers of lost and gained items of those that pass. The usual formula
(z_(1-alpha) + z_power) sqrt(discordance / n) is its limit for many changed items; with few, it promises what the score
interval cannot hold. All others: the share of seeded runs that pass (`audit.verdicts.rehearsal`), as no normal
approximation tells what a bootstrap of few changed items will hold.

Simulated audits (benchmarks/results/verdict-power.md) keep what is planned from the sizes of the changes: within about
2 points for independent 0/1 scores, 4 for shared sources and graded scores and 5 for an F1, which is planned up to 8
points too cautiously where no more than three sentences change. The root mean square of the changes says less: where
they are not spread evenly, a plan from it is off by up to 11 points without a drop, either way, and promises far too
much of a true drop that is made of a few large losses.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from audit.verdicts.bootstrap import contrast_of, influences
from audit.verdicts.design import Design
from audit.verdicts.distributions import normal_quantile
from audit.verdicts.intervals import Floats, effective_clusters, recall_by_class_of, resolution
from audit.verdicts.rehearsal import rehearse

_FEWER = 1_000  # rehearsed runs where many drops are tried


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
    change: float | Sequence[float] = 0.3,
    clusters: Sequence[str] | None = None,
    alike: float = 0.25,
    corpus_weights: Sequence[float] | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
    seed: int = 0,
) -> Plan:
    """Plan any ability: `items` items, of which a share `discordance` is expected to change, either way.

    `binary`: each item is right or wrong. Otherwise what changes does so by `change` points: the root mean square, or
    what `observed_change` saw. (In runs of the pocket models it was 0.3 to 0.5 for summaries and for entities.)
    `clusters` names each item's source, as `judge` takes it; two items of one source correlate by `alike`.
    `corpus_weights`, for a corpus metric: what each item adds to its denominator (its gold entities).

    Takes up to a second; for independent 0/1 scores a few milliseconds. That the base is above its floor is taken for
    granted. Raises `AuditError` for what cannot be planned.
    """
    changes = float(change) if isinstance(change, int | float) else tuple(change)
    names = None if clusters is None else tuple(clusters)
    weights = None if corpus_weights is None else tuple(corpus_weights)
    design = Design(items, discordance, changes, binary, names, alike, weights)
    margin = smallest(rehearse(design, 0.0, alpha, seed).certify, power)

    def sees(points: float) -> float:
        return rehearse(design, points, alpha, seed, _FEWER).see()

    drop = smallest(sees, power, None if design.exact else margin or resolution(items, alpha))
    units = items if names is None else effective_clusters(np.unique(names, return_counts=True)[1])
    return Plan(units, margin, drop, power, alpha)


def plan_binary(n: int, discordance: float, *, power: float = 0.8, alpha: float = 0.05) -> Plan:
    """For n independent items with 0/1 scores."""
    return plan_scores(n, discordance, binary=True, power=power, alpha=alpha)


def power_binary(n: int, discordance: float, margin: float, drop: float = 0.0, alpha: float = 0.05) -> float:
    """P(PASS) for n independent items with 0/1 scores whose true drop is `drop`; exact but for a tail of 1e-12."""
    return rehearse(Design(n, discordance, binary=True), drop, alpha).certify(margin)


def power_to_see(n: int, discordance: float, drop: float, alpha: float = 0.05) -> float:
    """P(the lower limit is above 0) for n independent items with 0/1 scores whose true drop is `drop`; as exact."""
    return rehearse(Design(n, discordance, binary=True), drop, alpha).see()


def observed_change(base: Floats, edited: Floats) -> tuple[float, ...]:
    """By how many points the items of an earlier run moved that did; (items, 2 ratios) tables as in `bootstrap`.

    Of a corpus metric: the items' shares of the drop, as points of an item of mean weight.
    """
    contrast = contrast_of(base, edited)
    reach = np.maximum(base[:, 1::2], edited[:, 1::2]).sum(axis=1)  # (items,)
    drop = float(recall_by_class_of(base.sum(axis=0)) - recall_by_class_of(edited.sum(axis=0)))
    moves = len(base) * (influences(contrast) + drop * reach / reach.sum())  # whose mean is the drop
    return tuple(np.abs(moves[(base != edited).any(axis=1)]).tolist())


def smallest_margin(n: int, discordance: float, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The quick formula, for tables: (z_(1-alpha) + z_power) sqrt(discordance / n), never below `resolution(n)`."""
    quantiles = normal_quantile(1 - alpha) + normal_quantile(power)
    return max(quantiles * math.sqrt(discordance / n), resolution(n, alpha))


def smallest(chance: Callable[[float], float], power: float, near: float | None = None) -> float | None:
    """The smallest number of points at which a chance that rises with it reaches `power`.

    To 1e-5; or, with a first guess `near`, to 2 % and by trying no points much farther.
    """
    low, high = 0.0, 0.999 if near is None else near
    while near is not None and chance(high) < power and high < 0.999:
        low, high = high, min(0.999, 2 * high)
    if chance(high) < power:
        return None
    while high - low > (1e-5 if near is None else 0.02 * high):
        middle = (low + high) / 2
        low, high = (low, middle) if chance(middle) >= power else (middle, high)
    return high
