"""Grids for the tests of their page: a small one with everything, and a large one."""

from dataclasses import replace

from audit.reports.html.grid_page import NOT_RUN, grid_html
from audit.reports.workflows.grid_cells import Cell, CellResult
from audit.reports.workflows.grid_findings import Finding
from audit.reports.workflows.grid_shares import CellShares, GridShares
from audit.verdicts.evidence import Kept
from tests.reports.html.pages import ABILITIES
from tests.workflows.grid.made_results import graded, graded_sequence

COMMAND = "audit run --editor rome --edit-count 10"
FINDINGS = (
    Finding(1, "Abilities drift down.", "The loss grows.", True, ("ROME: 1: 0.1, 10: 0.4.",)),
    Finding(2, "KN destroys the model.", "Nothing is left.", None, ()),
)


def small_grid() -> list[CellResult]:
    """A control, ROME with and without RECT at three numbers of edits, and MEMIT at one."""
    cells = [
        graded("identity", "batch-single", 1, 1.0),
        *graded_sequence("rome", {1: 1.0, 10: 0.6, 100: {"reasoning": 0.1, "sentiment": 0.3}}),
        *graded_sequence("rome", {10: 0.8}, restraint="rect:0.4"),
        graded("memit", "batch-single", 10, 0.9),
    ]
    return [replace(one, report=replace(one.report, command=COMMAND)) for one in cells]


def absent_cells() -> dict[Cell, str]:
    return {
        Cell("pocket-gpt2", "mend", "", "batch-single", 10, 10): NOT_RUN,
        Cell("pocket-llama", "rome", "", "instance-sequential", 1, 1): "failed: --edit-count 999 is too many",
    }


def small_page() -> str:
    return grid_html(small_grid(), {"pocket-gpt2": FINDINGS}, None, absent_cells())


class SameShares(GridShares):
    """The shares of the first cell for all, which take no time."""

    def __init__(self, result: CellResult) -> None:
        super().__init__()
        self._result = result

    def of(self, result: CellResult) -> CellShares:
        return super().of(self._result)

    def difference(self, first: CellResult, second: CellResult) -> Kept:
        return Kept(-0.012, -0.034, 0.001)


def large_page() -> str:
    """Two models, 112 cells, eight abilities each, with commands as long as those of a real grid."""
    one = graded("rome", "instance-sequential", 1, 0.9)
    row, scores = one.report.abilities[0], one.scores[0]
    rows = tuple(replace(row, ability=name, reading="likelihood", prompting="4 examples") for name in ABILITIES)
    report = replace(one.report, abilities=rows, command="audit run " + "--option value " * 30)
    one = replace(one, report=report, scores=tuple(replace(scores, ability=name) for name in ABILITIES))
    cells = [
        replace(one, cell=Cell(model, editor, restraint, "instance-sequential", 1, count))
        for model in ("SmolLM2-135M-Instruct-Q4", "gemma-3-270m-Q4")
        for editor in ("kn", "mend", "rome", "memit")
        for restraint in ("", "rect:0.4")
        for count in (1, 2, 5, 10, 20, 50, 100)
    ]
    return grid_html(cells, {"SmolLM2-135M-Instruct-Q4": FINDINGS}, SameShares(one))
