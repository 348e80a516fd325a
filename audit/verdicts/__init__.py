"""Statistics of paired scores: from two score vectors to PASS, FAIL or INCONCLUSIVE, as numbers.

The words of a verdict are defined here with the standard library only, so that reports, the plugin and the suites
import them at no cost. `audit.verdicts.verdict.judge` computes verdicts and imports numpy.
"""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """PASS, FAIL or INCONCLUSIVE; `audit.verdicts.verdict` defines them."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


@dataclass(frozen=True)
class Verdict:
    """The verdict on the paired scores of one ability. All scores, limits and margins are in score points.

    drop             base - edited, on the same items; negative when the edited model is better
    lower, upper     the one-sided limits of the drop, each at `confidence` (95 % each: a 90 % interval)
    floor            the score of a model that cannot do the task; `base_lower` must exceed it. The mean, where every
                     item has its own
    clusters         number of groups of items that share a source; equal to `n` where none is shared
    method           "tango", "clustered tango" or "studentized bootstrap"; of a run that stopped early, "betting"
    right_to_wrong   items whose score fell (for 0/1 scores: right before, wrong after); `wrong_to_right`: rose
    base_lower       one-sided lower limit of the base score
    more_items       about how many further items would settle an INCONCLUSIVE verdict; None if no number would
    confidence       of each one-sided limit: 0.95, or more in a run that may stop early
    harm_lower       one-sided lower limit of the drop itself; None where it is `lower`
    kept             the share of (base - floor) that is left, (edited - floor) / (base - floor), of a reading with
                     floors of its items or with odds; None for others, and where the base is not assessable
    kept_lower       its one-sided lower limit, at `confidence`; `kept_upper`: the upper one. None in a run that
                     stopped early on bets
    """

    outcome: Outcome
    base: float
    edited: float
    drop: float
    lower: float
    upper: float
    margin: float
    n: int
    floor: float
    clusters: int
    method: str
    right_to_wrong: int
    wrong_to_right: int
    base_lower: float | None = None
    more_items: int | None = None
    confidence: float = 0.95
    harm_lower: float | None = None
    kept: float | None = None
    kept_lower: float | None = None
    kept_upper: float | None = None

    @property
    def assessable(self) -> bool:
        """Whether the base model is clearly above the floor, so that there is something to lose."""
        return self.base_lower is None or self.base_lower > self.floor


@dataclass(frozen=True)
class StoppingRule:
    """The sample of a run that may stop early, and how often it looks: fixed before the first item.

    clusters_by_size   the numbers of clusters of one item, of two items, and so on
    block              the fewest items between two looks, and before the first
    """

    clusters_by_size: tuple[int, ...]
    block: int

    @property
    def items(self) -> int:
        return sum(size * count for size, count in enumerate(self.clusters_by_size, start=1))

    @property
    def clusters(self) -> int:
        return sum(self.clusters_by_size)
