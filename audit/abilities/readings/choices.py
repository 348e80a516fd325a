"""From the log-likelihoods of an item's choices to the text that its ability parses."""

import math
from collections.abc import Sequence

from audit.abilities.contract import Item


def best_choice(item: Item, log_likelihoods: Sequence[float]) -> str:
    """The index of the best-ranked choice, as text; "" (unparseable, so wrong) when any number is not finite.

    A tie for the best goes against the model: a wrong choice is taken. An argmax would give a model whose
    log-likelihoods are all NaN or all equal the share of items whose answer stands first.
    """
    if len(log_likelihoods) != len(item.choices):
        raise ValueError(f"item {item.key} has {len(item.choices)} choices and {len(log_likelihoods)} log-likelihoods")
    if not all(math.isfinite(value) for value in log_likelihoods):
        return ""
    best = max(log_likelihoods)
    tied = [str(index) for index, value in enumerate(log_likelihoods) if value == best]
    return next((index for index in tied if index not in item.gold), tied[0])
