"""Reading by choices: the option with the highest log-likelihood."""

import math
from collections.abc import Sequence

from audit.abilities.contract import Item


def best_choice(item: Item, log_likelihoods: Sequence[float]) -> str:
    """The index of the best choice as text, or "" (unparseable, so wrong) if any log-likelihood is not finite.

    A tie for the best goes against the model: a wrong choice is taken. With an argmax, a model whose log-likelihoods
    are all NaN or all equal would score the share of items whose first choice is right.
    """
    if len(log_likelihoods) != len(item.choices):
        raise ValueError(f"item {item.key} has {len(item.choices)} choices and {len(log_likelihoods)} log-likelihoods")
    if not all(math.isfinite(value) for value in log_likelihoods):
        return ""
    best = max(log_likelihoods)
    tied = [str(index) for index, value in enumerate(log_likelihoods) if value == best]
    return next((index for index in tied if index not in item.gold), tied[0])
