"""The alarm: which abilities, at which checkpoints, were harmed at all.

It supports one sentence: "at least these were harmed". With probability 1 - alpha no name on the list is there by
chance, for any number of comparisons (Holm's step-down adjustment controls the family-wise error under any dependence).
It says nothing about margins: harm can be real and acceptable. The other sentence of a run, "every ability is within
its margin", needs no adjustment: it is wrong only if an ability beyond its margin passes, which has a probability of at
most alpha (intersection-union; Berger 1982).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from audit.verdicts.bootstrap import as_means, as_ratios
from audit.verdicts.intervals import Floats, binomial_upper_tail, cluster_codes, cluster_sums, recall_by_class_of
from audit.verdicts.placements import as_pairs, odds_of, placements
from audit.verdicts.random_groups import in_random_groups

FLIPS = 19_999  # so the smallest p-value, 1 / 20,000, survives Holm's factor for 8 abilities at 100 checkpoints
_EXACT_UP_TO = 14  # changed clusters; all of their 2^14 swaps are counted
_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Alarm:
    """The p-value of harm of one ability (at one checkpoint), unadjusted and adjusted for all comparisons."""

    name: str
    p_value: float
    adjusted: float
    harmed: bool


def harm_p_value(
    base: Sequence[float] | Floats,
    edited: Sequence[float] | Floats,
    *,
    clusters: Sequence[str] | None = None,
    base_counts: ArrayLike | None = None,
    edited_counts: ArrayLike | None = None,
    floors: Sequence[float] | Floats | None = None,
    base_odds: ArrayLike | None = None,
    edited_odds: ArrayLike | None = None,
    positives: ArrayLike | None = None,
    seed: int = 0,
) -> float:
    """One-sided p-value of "the edited model is worse", arrays as `audit.verdicts.verdict.judge` takes them.

    Without an effect of the edit the two answers of each cluster are exchangeable. The p-value is the share of swaps
    that give a drop at least as large: McNemar's exact (binomial) test for 0/1 scores without shared sources; else all
    swaps of the changed clusters, or `FLIPS` random ones. It is exact for every n and every metric. Items that share a
    source are swapped together. `floors` change nothing: they are those of the base model for both.

    With odds the items' shares of the AUC (`audit.verdicts.placements`) are swapped, not the odds themselves, whose
    swaps would change the placements of all other items. That p-value is approximate: it is exact to the first order.
    With items of one class only it is 1.
    """
    before, after = np.asarray(base, dtype=np.float64), np.asarray(edited, dtype=np.float64)
    codes = cluster_codes(clusters, len(before))
    if (tables := odds_of(base_odds, edited_odds, positives, len(before))) is not None:
        truth = tables[2]
        if truth.all() or not truth.any():
            return 1.0
        first, second = (as_pairs(placements(odds, truth), truth) for odds in tables[:2])
    elif base_counts is not None and edited_counts is not None:
        first, second = (as_ratios(np.asarray(table, dtype=np.float64)) for table in (base_counts, edited_counts))
    elif codes.max() + 1 == len(before) and np.isin([before, after], (0, 1)).all():
        lost, gained = int((after < before).sum()), int((after > before).sum())
        return binomial_upper_tail(lost, lost + gained)
    else:
        first, second = as_means(before), as_means(after)
    return _swapped(cluster_sums(first, codes), cluster_sums(second, codes), seed)


def _swapped(first: Floats, second: Floats, seed: int) -> float:
    """`first` and `second`: (clusters, 2 ratios)."""
    total, other = first.sum(axis=0), second.sum(axis=0)
    drop = float(recall_by_class_of(total)) - float(recall_by_class_of(other))
    change = (second - first)[(second != first).any(axis=1)]  # (changed, 2 ratios)
    change = change[np.lexsort(change.T[::-1])]  # so that the order of items does not matter
    if not len(change):
        return 1.0
    change = in_random_groups(change, seed)  # whole groups are exchangeable too
    exact = len(change) <= _EXACT_UP_TO
    swaps = 2 ** len(change) if exact else FLIPS
    generator, at_once, reached = np.random.default_rng(seed), max(1, _CELLS_AT_ONCE // len(change)), 0
    for start in range(0, swaps, at_once):
        numbers = np.arange(start, min(start + at_once, swaps))
        if exact:  # the binary digits of every number
            swapped = (numbers[:, None] >> np.arange(len(change))) & 1
        else:
            swapped = generator.integers(0, 2, (len(numbers), len(change)))
        moved = swapped.astype(np.float64) @ change  # (swaps at once, 2 ratios)
        drops = recall_by_class_of(total + moved) - recall_by_class_of(other - moved)
        reached += int((drops >= drop - 1e-12).sum())
    return reached / swaps if exact else (reached + 1) / (swaps + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given: reject those at most alpha."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        if not 0 <= p_values[place] <= 1 or math.isnan(p_values[place]):
            raise ValueError(f"{p_values[place]} is not a p-value; give numbers from 0 to 1")
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def alarms(p_values: Mapping[str, float], alpha: float = 0.05) -> list[Alarm]:
    """One alarm per p-value, in the order given; `harmed` is controlled for all of them together, at `alpha`."""
    adjusted = holm(list(p_values.values()))
    return [Alarm(name, p, q, q <= alpha) for (name, p), q in zip(p_values.items(), adjusted, strict=True)]
