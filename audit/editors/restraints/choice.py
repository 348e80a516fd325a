"""A restraint as the user types it: "rect:0.4", "random:0.4", "prune", "prune:1.5"."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from audit.errors import AuditError

# The syntax of each. SHARE is the share of entries that is kept; ALPHA the base of PRUNE's logarithm, by default e.
RESTRAINTS: Mapping[str, str] = {"rect": "rect:SHARE", "random": "random:SHARE", "prune": "prune or prune:ALPHA"}


@dataclass(frozen=True)
class RestraintChoice:
    """A parsed restraint: its kind, and the share of entries to keep or the base of PRUNE's logarithm."""

    kind: str
    number: float

    def __str__(self) -> str:
        plain = self.kind == "prune" and self.number == math.e
        return self.kind if plain else f"{self.kind}:{self.number!r}".removesuffix(".0")


def parse_restraint(text: str) -> RestraintChoice:
    """The restraint that `text` names: "rect:0.4", "random:0.4", "prune", "prune:1.5".

    Raises:
        AuditError: there is no such restraint, or its number is missing, not a number, or out of range.
    """
    kind, colon, number = (part.strip() for part in text.partition(":"))
    if kind not in RESTRAINTS:
        close = difflib.get_close_matches(kind, RESTRAINTS, n=1)
        guess = f" (did you mean {close[0]!r}?)" if close else ""
        raise AuditError(
            f"--restraint {text!r}: there is no restraint {kind!r}; choose {', '.join(RESTRAINTS.values())}{guess}."
        )
    if kind == "prune" and not colon:
        return RestraintChoice(kind, math.e)
    if not number:
        meaning = "the base of the logarithm" if kind == "prune" else "the share of entries to keep"
        raise AuditError(f"--restraint {text!r}: {meaning} is missing; write {_example(kind)}.")
    try:
        value = float(number)
    except ValueError:
        raise AuditError(f"--restraint {text!r}: {number!r} is not a number; write {_example(kind)}.") from None
    if kind == "prune" and not 1 < value < math.inf:
        raise AuditError(f"--restraint {text!r}: the base of the logarithm must be above 1; write {_example(kind)}.")
    if kind != "prune" and not 0 < value <= 1:
        raise AuditError(f"--restraint {text!r}: the share must be above 0 and at most 1; write {_example(kind)}.")
    return RestraintChoice(kind, value)


def _example(kind: str) -> str:
    return "prune or prune:1.5" if kind == "prune" else f"{kind}:0.4"
