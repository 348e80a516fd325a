"""One generated example: a row in the columns of the real data set, and the answer that a pocket model is taught."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any


@dataclass(frozen=True)
class Example:
    """`completion` is what follows the ability's prompt; it may show its evidence before the answer proper."""

    row: dict[str, Any]
    completion: str


def draw(make: Callable[[Random], tuple[Example, bool]], rng: Random, test: bool) -> Example:
    """Draw until an example falls on the wanted side of the split; `make` returns (example, belongs to test)."""
    while True:
        example, belongs_to_test = make(rng)
        if belongs_to_test is test:
            return example
