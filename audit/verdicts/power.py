"""Power of a run: the margin that so many items can certify, and the drop that they can detect.

    power_of(277, 0.1, binary=True)              from what is known of an ability's items before the run
    power_of(200, 0.1, binary=False, change=0.5, corpus_weights=gold_entities)
    observed_change(base, edited)                the sizes of the changes in a past run, for `change`

Independent 0/1 scores: exact, the sum over all numbers of lost and gained items of those that pass. The usual formula
(z_(1-alpha) + z_power) sqrt(discordance / n) is its limit for many changed items; for few it is too small, as the score
interval is wider than the normal one. All others: the share of simulated runs that pass (`audit.verdicts.rehearsal`),
since no normal approximation describes a bootstrap of few changed items.

benchmarks/verdict_power.py compares this with simulated audits (benchmarks/results/verdict-power.md). From the sizes of
the changes, power is right within a few points. Their root mean square says less: where changes are not spread evenly
it is wrong by up to about 13 points without a drop, either way. The sizes in a run in which nothing got worse say
nothing about those of losses, so a true drop needs `loss`, or its own sizes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from audit.verdicts.bootstrap import shares_of_drop
from audit.verdicts.intervals import Floats, resolution
from audit.verdicts.rehearsal import Design, rehearse

_FEWER = 1_000  # simulated runs where many drops are tried


@dataclass(frozen=True)
class Power:
    """What a run can show with the wanted probability, in score points; None if no number up to 1 is enough.

    smallest_margin  is certified (PASS) if nothing got worse
    smallest_drop    is detected (the lower limit of the drop is above 0)
    """

    smallest_margin: float | None
    smallest_drop: float | None


def power_of(
    items: int,
    discordance: float,
    *,
    binary: bool,
    change: float | Sequence[float] = 0.3,
    clusters: Sequence[str] | None = None,
    alike: float = 0.25,
    corpus_weights: Sequence[float] | None = None,
    loss: float | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
    seed: int = 0,
) -> Power:
    """The power of `items` items of any ability, of which a share `discordance` is expected to change, either way.

    `binary`: each item is right or wrong. Otherwise changed items move by `change` points: the root mean square, or the
    sizes that `observed_change` returns. (In runs of the pocket models it was 0.3 to 0.5 for summaries and entities.)
    `clusters` names each item's source, as `judge` takes it; two items of one source correlate by `alike`.
    `corpus_weights`, for a corpus metric: what each item adds to its denominator (its gold entities).
    `loss`: see `Design`; it decides how large the smallest drop that is detected must be.

    Takes up to a second; for independent 0/1 scores a few milliseconds. Assumes that the base score is above its floor.
    Raises `AuditError` for values out of range (see `Design`).
    """
    changes = float(change) if isinstance(change, int | float) else tuple(change)
    names = None if clusters is None else tuple(clusters)
    weights = None if corpus_weights is None else tuple(corpus_weights)
    design = Design(items, discordance, changes, binary, names, alike, weights, loss)
    margin = smallest(rehearse(design, 0.0, alpha, seed).certify, power)

    def sees(points: float) -> float:
        return rehearse(design, points, alpha, seed, _FEWER).see()

    drop = smallest(sees, power, None if design.exact else margin or resolution(items, alpha))
    return Power(margin, drop)


def observed_change(base: Floats, edited: Floats) -> tuple[float, ...]:
    """The sizes of the changes in a past run, one per changed item; (items, 2 ratios) tables as in `bootstrap`.

    For a corpus metric they are the items' shares of the drop, in points of an item of mean weight.
    """
    moves = len(base) * shares_of_drop(base, edited)  # their mean is the drop
    return tuple(np.abs(moves[(base != edited).any(axis=1)]).tolist())


def smallest(chance: Callable[[float], float], power: float, near: float | None = None) -> float | None:
    """The smallest number of points at which `chance`, which rises with it, reaches `power`; None if none up to 1 does.

    To 1e-5; with a first guess `near`, to 2 %, trying no points much farther.
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
