"""What the cells of a grid will cost in wall seconds: from finished cells, else from the speed of this machine.

    costs = Costs(settings, finished.values())
    costs.estimate(plan_cells(cells), left)[cell].seconds
    costs.add(result)                               # makes the next estimates better

Asking takes the median of the finished cells of the model. An edit takes what edits of the same editor took on the
model, else what those of other editors took there. The first cell of an edit plan pays for the edits, and that of a
model for its base answers.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from audit.editors import CONTROLS
from audit.errors import AbilityError, AuditError
from audit.reports.workflows.grid_cells import Cell, CellResult
from audit.workflows.durations import ModelFiles, machine_speed
from audit.workflows.grid.cells import GridSettings
from audit.workflows.grid.plan_cells import PlanCells
from audit.workflows.preflight import Preflight

OF_A_MODEL = ("loading", "base answers", "other batches")  # stages that the first cell of a model pays for
TOKENS_AN_EDIT = 5_000  # read in the time of one edit; 12 s were measured for ROME on SmolLM2 135M
BASE_READINGS = 4  # of all items, for base answers: the trials of the pilot, the floors, and other batches
FINISHED, MACHINE = "from finished cells", "from the speed of this machine"


@dataclass(frozen=True)
class Cost:
    """Wall seconds, and where the estimate is from."""

    seconds: float
    source: str


class Costs:
    """Estimates for the cells of a grid, from its results so far."""

    def __init__(self, settings: GridSettings, results: Iterable[CellResult] = ()) -> None:
        self._settings = settings
        self._results: list[CellResult] = list(results)
        self._guesses: dict[str, tuple[float, float]] = {}

    def add(self, result: CellResult) -> None:
        """Use a result in the next estimates."""
        self._results.append(result)

    def estimate(self, plans: Sequence[PlanCells], left: Collection[Cell]) -> dict[Cell, Cost]:
        """The cost of each cell that is left, if they run in the order of the plans."""
        found: dict[Cell, Cost] = {}
        known = {result.cell.model for result in self._results}
        for plan in plans:
            made = any(cell not in left for cell in plan.cells)  # an earlier run has stored the edits
            for cell in plan.cells:
                if cell not in left:
                    continue
                asking, edit, source = self._rates(cell)
                seconds = asking * (cell.count if cell.mode == "instance-single" else 1)
                if cell.model not in known:
                    known.add(cell.model)
                    seconds += BASE_READINGS * asking
                if not made and plan.plan.editor not in CONTROLS:
                    seconds += edit * plan.plan.count
                made = True
                found[cell] = Cost(seconds, source)
        return found

    def _rates(self, cell: Cell) -> tuple[float, float, str]:
        """The seconds of asking one edited model and of one edit, and where they are from."""
        alike = [one for one in self._results if one.cell.model == cell.model]
        if not alike:
            return *self._guess(cell), MACHINE
        edits = [(one.cell.editor, one.report.seconds["editing"] / one.edits_made) for one in alike if one.edits_made]
        own = [seconds for editor, seconds in edits if editor == cell.editor]
        own = own or [seconds for editor, seconds in edits if editor not in CONTROLS]
        return median(map(_asking, alike)), median(own) if own else self._guess(cell)[1], FINISHED

    def _guess(self, cell: Cell) -> tuple[float, float]:
        """The same two numbers from the size of the model; zeros where it is unknown."""
        if cell.model not in self._guesses:
            self._guesses[cell.model] = self._guessed(cell)
        return self._guesses[cell.model]

    def _guessed(self, cell: Cell) -> tuple[float, float]:
        settings = replace(self._settings.audit_settings(cell), edit_mode="instance-sequential", edit_batch_size=None)
        preflight, files = Preflight(settings), ModelFiles.of(settings.model)
        for ability in settings.abilities.asked:
            try:
                preflight.assess(ability)
            except AbilityError:
                continue  # it will not be asked
        try:
            machine = None if files is None else machine_speed(files, settings.device, settings.dtype)
        except AuditError:
            machine = None
        if machine is None:
            return 0.0, 0.0
        return (preflight.report().seconds or 0.0) / 2, machine.read * TOKENS_AN_EDIT  # of two models


def _asking(result: CellResult) -> float:
    """The wall seconds of asking one edited model."""
    seconds = sum(spent for stage, spent in result.report.seconds.items() if stage not in (*OF_A_MODEL, "editing"))
    return seconds / (result.cell.count if result.cell.mode == "instance-single" else 1)
