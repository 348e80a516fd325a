"""Margins: the largest acceptable drop, in score points, or the share above the floor that must be retained.

    parse_margin("0.03")   Points(0.03)
    parse_margin("3pp")    Points(0.03)
    parse_margin("90%")    Retained(0.9): edited - floor >= 0.9 (base - floor)

A retained share s allows a drop of (1 - s) (base - floor), and base is only estimated, from the same items. With the
estimate in that formula, the margin would be lenient exactly when the base score is high by chance. So the hypothesis
is rewritten for a single linear combination,

    base - edited <= (1 - s) (base - floor)   if and only if   s base - edited + (1 - s) floor <= 0,

whose limits come from the items' s base_i - edited_i and include the error of the base score. A verdict shows the
estimated margin, for information.
"""

import math
from dataclasses import dataclass

from audit.errors import AuditError


@dataclass(frozen=True)
class Points:
    """A drop of at most `points` score points; 0 to below 1."""

    points: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.points) and 0 <= self.points < 1):
            raise AuditError(
                f"a margin of {self.points} is out of range; give score points from 0 to below 1, such as 0.05"
            )

    def at(self, base: float, floor: float) -> float:
        """The margin in score points."""
        return self.points

    def line(self, floor: float) -> tuple[float, float]:
        """(kept, shift): the margin is exceeded where the mean of kept * base_i - edited_i - shift is above 0."""
        return 1.0, self.points

    def __str__(self) -> str:
        return f"{self.points:g}"


@dataclass(frozen=True)
class Retained:
    """At least `share` of (base - floor) must be left; a share lies between 0 and 1, both excluded."""

    share: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.share) and 0 < self.share < 1):
            raise AuditError(
                f"a retained share of {100 * self.share:g}% is out of range; give one between 0% and 100%, such as 90%"
            )

    def at(self, base: float, floor: float) -> float:
        """The margin in score points for a base score: (1 - share) (base - floor), and 0 for a base at the floor."""
        return max(0.0, (1 - self.share) * (base - floor))

    def line(self, floor: float) -> tuple[float, float]:
        """(kept, shift), as above."""
        return self.share, -(1 - self.share) * floor

    def __str__(self) -> str:
        return f"{100 * self.share:g}%"


Margin = Points | Retained


@dataclass(frozen=True)
class SuiteMargins:
    """The margins that a suite sets: for readings in score points, and the share to keep for likelihood."""

    max_drop: Margin
    keep: Margin

    def of(self, reading: str) -> Margin:
        """The margin of a reading."""
        return self.keep if reading == "likelihood" else self.max_drop


def margin_of(margin: float | str | Margin) -> Margin:
    """A number is points; text is read by `parse_margin`."""
    if isinstance(margin, str):
        return parse_margin(margin)
    return margin if isinstance(margin, Points | Retained) else Points(float(margin))


def parse_margin(text: str, said: str | None = None) -> Margin:
    """`0.03` and `3pp` are points, `90%` is a share to be retained; raises `AuditError` for anything else.

    `said` is the name of the text in errors ("--margin 'ner=3'"), by default the text itself. A percent sign never
    means points. Shares below one half are refused, since "3%" could be meant as points.
    """
    named = f"margin {text!r}" if said is None else said
    written = text.strip()
    unit = next((ending for ending in ("pp", "%") if written.lower().endswith(ending)), "")
    number = written[: len(written) - len(unit)].rstrip()
    try:
        value = float(number)
    except ValueError:
        raise AuditError(f"{named}: {number!r} is not a number; write 0.03, 3pp or 90%.") from None
    if not math.isfinite(value):
        raise AuditError(f"{named}: {number!r} is not a finite number; write 0.03, 3pp or 90%.")
    if unit == "%":
        if not 50 <= value < 100:
            raise AuditError(
                f"{named}: a percentage is the share of the base score above the floor that must be retained, "
                f"from 50% to below 100%; for a drop of {number} points write {number}pp."
            )
        return Retained(round(value / 100, 12))
    points = round(value / 100, 12) if unit else value
    if not 0 < points < 1:
        raise AuditError(f"{named}: a margin lies between 0 and 1 score points, both excluded; write 0.03 or 3pp.")
    return Points(points)
