"""The units in which findings compare cells: score points, or shares of what the base model has above its floors.

A grid whose answers are written or chosen, as on the pocket models, is judged in points. Where abilities are read by
likelihood or calibrated choices, points of different readings cannot be averaged, and the unit is the share kept. Its
criteria are stated in `reports/real/README.md`; they were fixed before any cell of a real model was run.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from audit.reports.verdict_sentences import share_kept
from audit.reports.workflows.grid_cells import CellResult
from audit.reports.workflows.grid_shares import GridShares

GRADED = ("likelihood", "calibrated")  # readings whose scores are no points of a task's own metric


class Unit(Protocol):
    """How cells are compared. A loss is 0 for a model that lost nothing."""

    loss: str  # what a loss is called
    figure: str  # what `shown` shows
    certain: str  # what a clear change is, for criteria
    clear: float  # the least clear change
    fall: str  # when an ability has certainly fallen
    rise: str  # when an ability rises
    steps: str  # what "from each batch size to the next" asks for besides
    apart: str  # what "more" asks for besides; "" if any difference counts
    collapse: str  # what is left of a collapsed model, for criteria
    needs_control: bool  # whether a cell that keeps as many entries at random must be there beside RECT
    only_harmed: bool  # whether only cells are compared with RECT in which the unrestrained editor does harm

    def loss_of(self, result: CellResult) -> float: ...

    def shown(self, result: CellResult) -> str:
        """The number of a cell that figures show."""
        ...

    def left_of(self, result: CellResult) -> float:
        """What is left of the model's abilities: about 0 after a collapse."""
        ...

    def more(self, first: CellResult, second: CellResult) -> bool:
        """Whether the first cell loses more than the second: clearly, where the unit has intervals."""
        ...

    def clearly_more(self, first: CellResult, second: CellResult) -> bool:
        """Whether it loses clearly more."""
        ...

    def rising(self, cells: Sequence[CellResult]) -> bool:
        """Whether the loss rises from each cell to the next."""
        ...

    def fallen(self, result: CellResult) -> tuple[int, int]:
        """The number of abilities that have certainly fallen, and of all that could."""
        ...

    def rises(self, before: CellResult, after: CellResult) -> list[str]:
        """The abilities that are higher in the second cell."""
        ...


class Points:
    """Score points: the mean drop over the abilities, as estimated."""

    loss = figure = "mean drop"
    certain = "by more than 0.01"
    clear = 0.01
    fall = "lower limit of the drop above 0"
    rise = "by more than 0.01"
    steps = ""
    apart = ""
    collapse = "mean score of the abilities"
    needs_control = True
    only_harmed = False

    def loss_of(self, result: CellResult) -> float:
        return result.mean_drop

    def shown(self, result: CellResult) -> str:
        return f"{result.mean_drop:.3f}"

    def left_of(self, result: CellResult) -> float:
        return result.mean_score

    def more(self, first: CellResult, second: CellResult) -> bool:
        return first.mean_drop > second.mean_drop

    def clearly_more(self, first: CellResult, second: CellResult) -> bool:
        return first.mean_drop > second.mean_drop + self.clear

    def rising(self, cells: Sequence[CellResult]) -> bool:
        return all(low.mean_drop < high.mean_drop for low, high in pairwise(cells))

    def fallen(self, result: CellResult) -> tuple[int, int]:
        return sum(row.verdict.lower > 0 for row in result.report.abilities), len(result.report.abilities)

    def rises(self, before: CellResult, after: CellResult) -> list[str]:
        found: list[str] = []
        for row in after.report.abilities:
            old = before.report.ability(row.ability)
            if old is not None and row.verdict.edited > old.verdict.edited + self.clear:
                found.append(f"{row.ability} {old.verdict.edited:.2f} → {row.verdict.edited:.2f}")
        return found


class Shares:
    """Shares kept of what lies above the floor; a change is clear if its 90 % interval on the same items agrees."""

    loss = "loss of mean kept"
    figure = "mean kept"
    certain = "by at least 0.02 with a 90 % interval (on the same items) above 0"
    clear = 0.02
    fall = "Holm over the abilities, at 5 %"
    rise = "by at least 0.02 of its share"
    steps = ", and from the smallest to the largest by at least 0.02 with a 90 % interval above 0"
    apart = ", each by at least 0.02 with a 90 % interval above 0"
    collapse = "mean kept"
    needs_control = False
    only_harmed = True

    def __init__(self, shares: GridShares | None = None) -> None:
        self._shares = shares or GridShares()

    def loss_of(self, result: CellResult) -> float:
        return 1 - self._shares.of(result).mean.share

    def shown(self, result: CellResult) -> str:
        return share_kept(self._shares.of(result).mean)

    def left_of(self, result: CellResult) -> float:
        return self._shares.of(result).mean.share

    def more(self, first: CellResult, second: CellResult) -> bool:
        return self.clearly_more(first, second)

    def clearly_more(self, first: CellResult, second: CellResult) -> bool:
        change = self._shares.difference(second, first)
        return change.share >= self.clear and change.lower > 0

    def rising(self, cells: Sequence[CellResult]) -> bool:
        steps = all(self.loss_of(low) < self.loss_of(high) for low, high in pairwise(cells))
        return steps and self.clearly_more(cells[-1], cells[0])

    def fallen(self, result: CellResult) -> tuple[int, int]:
        judged = self._shares.of(result).tables
        return sum(alarm.harmed for alarm in result.report.alarms if alarm.name in judged), len(judged)

    def rises(self, before: CellResult, after: CellResult) -> list[str]:
        old, new = self._shares.of(before), self._shares.of(after)
        found: list[str] = []
        for ability in self._shares.same_items(before, after):
            low, high = (max(0.0, one.tables[ability].share) for one in (old, new))
            if high - low >= self.clear:
                found.append(f"{ability} {low:.3f} → {high:.3f} of its height")
        return found


def unit_of(results: Sequence[CellResult], shares: GridShares | None = None) -> Points | Shares:
    """The unit of a grid: shares if some ability is read by likelihood or calibrated choices."""
    graded = any(row.reading in GRADED for result in results for row in result.report.abilities)
    return Shares(shares) if graded else Points()
