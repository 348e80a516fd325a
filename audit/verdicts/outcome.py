"""Outcome and verdict. Standard library only, so that importing it costs reports, the plugin and the suites nothing."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """PASS, FAIL or INCONCLUSIVE; `audit.verdicts.verdict` defines them."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Verdict:
    """The verdict on the paired scores of one ability. All scores, limits and margins are in score points.

    drop             base - edited, on the same items; negative when the edited model is better
    lower, upper     the two one-sided limits of the drop, at 95 % each by default: together a 90 % interval
    floor            the score of a model that cannot do the task; `base_lower` must exceed it
    clusters         number of groups of items that share a source; equal to `n` where none is shared
    method           "tango", "clustered tango" or "studentized bootstrap"; of a run that stopped early, "betting"
    right_to_wrong   items whose score fell (for 0/1 scores: right before, wrong after); `wrong_to_right`: rose
    base_lower       one-sided lower limit of the base score
    more_items       about how many further items would settle an INCONCLUSIVE verdict; None if no number would
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
    sentence: str
    base_lower: float | None = None
    more_items: int | None = None


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
