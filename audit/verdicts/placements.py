"""The area under the ROC curve (AUC) of log-odds as a sum over items: DeLong's placements.

An AUC is the share of pairs of a positive and a negative item in which the positive one has the higher odds; a tie
counts one half. The placement of an item is the share of the other class against which it is ranked right, so that

    A = mean of V_i over the positives = mean of V_j over the negatives

and the first-order influence of an item on A is (V_i - A) / m, with m items in its class (DeLong, DeLong and
Clarke-Pearson, Biometrics 44, 1988, 837-845). Items that share a source: their influences are summed (Obuchowski,
Biometrics 53, 1997, 567-578).

`as_pairs` writes this as a table of (found, there) for every class, as `recall_by_class_of` takes it, with found =
2 V_i - A and there = 1. The mean over the two classes is A, and `bootstrap.influences` of the table are DeLong's. Such
a found lies between -1 and 1, so an item reaches twice as far as in a recall: `SPAN`.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audit.verdicts.intervals import Floats

Truths = NDArray[np.bool_]  # (n,) whether each item is a positive
CHANCE = 0.5  # the AUC of odds that say nothing
SPAN = 2.0  # of what an item can add, where it is 1 for a score in [0, 1]


def odds_of(
    base: ArrayLike | None, edited: ArrayLike | None, positives: ArrayLike | None, n: int
) -> tuple[Floats, Floats, Truths] | None:
    """The (n, models) log-odds of both models and the (n,) positives, as arrays; None if nothing is given.

    NaN becomes the worst value: -inf for a positive, inf for a negative. Raises `ValueError` for other shapes, and
    where a part is missing.
    """
    if base is None and edited is None and positives is None:
        return None
    if base is None or edited is None or positives is None:
        raise ValueError("odds without the rest; give base_odds, edited_odds and positives, or none")
    truth = np.asarray(positives, dtype=np.bool_)
    if truth.shape != (n,):
        raise ValueError(f"positives of shape {truth.shape} for {n} items; give a truth value for every item")
    return _odds_table(base, truth), _odds_table(edited, truth), truth


def _odds_table(odds: ArrayLike, positives: Truths) -> Floats:
    """(n,) or (n, models) log-odds -> (n, models), where NaN is the worst value: -inf for a positive, else inf."""
    table = np.asarray(odds, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or len(table) != len(positives) or not table.shape[1]:
        raise ValueError(f"odds of shape {np.shape(odds)} for {len(positives)} items; give (n,) or (n, models)")
    return np.where(np.isnan(table), np.where(positives, -np.inf, np.inf)[:, None], table)


def placements(odds: Floats, positives: Truths) -> Floats:
    """(n, models) log-odds and (n,) truth values -> (n,) placements in [0, 1], averaged over the models.

    Both classes must be there.
    """
    ranked = np.empty_like(odds)
    for column, model in zip(ranked.T, odds.T, strict=True):  # (n,) each; `column` is a view
        ours, others = np.sort(model[positives]), np.sort(model[~positives])
        column[positives] = _share_below(model[positives], others)
        column[~positives] = 1 - _share_below(model[~positives], ours)
    return np.asarray(ranked.mean(axis=1))


def as_pairs(placed: Floats, positives: Truths) -> Floats:
    """(n,) placements -> (n, 4): (found, there) for the positives, then for the negatives."""
    # fsum rounds once, so the order of the items cannot show in the last digit.
    area = math.fsum(placed[positives]) / max(1, int(positives.sum()))
    found = 2 * placed - area
    columns = [found * positives, positives, found * ~positives, ~positives]
    return np.stack(columns, axis=1).astype(np.float64)


def _share_below(values: Floats, ordered: Floats) -> Floats:
    """The share of `ordered` that is below each value; half of those that equal it."""
    below, upto = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.asarray((below + upto) / (2 * len(ordered)))
