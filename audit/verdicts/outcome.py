"""The words of a verdict. Standard library only, so that reports, the plugin and the suites import it for free."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """PASS: the drop is certainly within the margin. FAIL: it is harm beyond it. INCONCLUSIVE: this run cannot say."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Verdict:
    """What the paired scores of one ability allow to be said. All scores, limits and margins are in [0, 1] points.

    drop             base - edited, on the same items; negative when the edited model is better
    lower, upper     the two one-sided limits of the drop, each at the confidence asked for (95 % by default)
    floor            what a model that cannot do the task scores; `base_lower` must exceed it
    clusters         number of groups of items that share a source; equal to `n` where none is shared
    method           "tango", "clustered tango" or "studentized bootstrap"; of a run that stopped early, "betting"
    right_to_wrong   items whose score fell (for 0/1 scores: right before, wrong after); `wrong_to_right`: rose
    base_lower       one-sided lower limit of the base score
    more_items       about how many further items would settle an INCONCLUSIVE verdict, None where items would not help
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

    clusters_by_size   how many clusters of one item may be asked, how many of two items, and so on
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
