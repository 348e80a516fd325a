"""The chart of all abilities: places on one axis, on which 0 is an unchanged score and 1 is the margin of the ability.

So abilities with margins of their own have one line in common. The axis is linear up to about the margin and
logarithmic beyond (the inverse hyperbolic sine), so a small harm and a ruined model fit on it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from audit.reports.rows import AbilityRow

SHORTEST = (-1.0, 2.0)  # multiples of the margin that every chart shows
TICKS = (-100.0, -10.0, 10.0, 100.0)
EDGE = 0.03  # share of the width that stays free at both ends, for the marks


@dataclass(frozen=True)
class Strip:
    """The line of one ability. Places are per cent of the width; None where the margin is 0, so there is no scale."""

    row: AbilityRow
    drop: float | None = None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Chart:
    """All strips, the places of 0 and of the margin, and further ticks with their labels."""

    strips: tuple[Strip, ...]
    zero: float
    margin: float
    ticks: tuple[tuple[float, str], ...]


def chart(rows: Sequence[AbilityRow]) -> Chart:
    """The chart of these abilities."""
    scaled = [row.verdict for row in rows if row.verdict.margin > 0]
    ends = [bound / one.margin for one in scaled for bound in (one.lower, one.upper)]
    first, last = min([SHORTEST[0], *ends]), max([SHORTEST[1], *ends])
    start, width = math.asinh(first), math.asinh(last) - math.asinh(first)

    def place(multiple: float) -> float:
        return round(100 * (EDGE + (1 - 2 * EDGE) * (math.asinh(multiple) - start) / width), 2)

    def strip(row: AbilityRow) -> Strip:
        one = row.verdict
        if one.margin <= 0:
            return Strip(row)
        return Strip(row, *(place(value / one.margin) for value in (one.drop, one.lower, one.upper)))

    ticks = tuple((place(tick), f"{tick:g}×") for tick in TICKS if first < tick < last)
    return Chart(tuple(map(strip, rows)), place(0.0), place(1.0), ticks)
