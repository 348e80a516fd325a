"""Estimates: from finished cells where there are any, and edits are paid for once."""

from dataclasses import replace
from pathlib import Path

import pytest

from audit.reports.workflows.grid_cells import Cell, CellResult
from audit.workflows.grid.cells import GridSettings
from audit.workflows.grid.costs import FINISHED, MACHINE, Costs
from audit.workflows.grid.plan_cells import plan_cells
from tests.workflows.grid.made_results import made

CELLS = [Cell("pocket-gpt2", "rome", "", "instance-sequential", 1, count) for count in (1, 10)]
SETTINGS = GridSettings(Path("out"), limit=10, abilities=("sentiment",), device="cpu")


def finished(editor: str, **seconds: float) -> CellResult:
    result = made(editor, "instance-sequential", 5, 0.9)
    stages = {name.replace("_", " "): spent for name, spent in seconds.items()}
    return replace(result, report=replace(result.report, seconds=stages), edits_made=5)


def test_finished_cells_of_the_model_give_the_seconds_of_asking_and_of_an_edit() -> None:
    known = finished("rome", loading=9.0, base_answers=50.0, edited_answers=20.0, edit_scores=2.0, editing=30.0)
    costs = Costs(SETTINGS, [known]).estimate(plan_cells(CELLS), set(CELLS))
    assert [costs[cell].seconds for cell in CELLS] == [22.0 + 10 * 6.0, 22.0]
    assert costs[CELLS[0]].source == FINISHED


def test_edits_that_a_finished_cell_made_are_not_counted_again() -> None:
    known = finished("rome", edited_answers=20.0, editing=30.0)
    costs = Costs(SETTINGS, [known]).estimate(plan_cells(CELLS), {CELLS[1]})
    assert costs[CELLS[1]].seconds == 20.0


def test_without_a_finished_cell_the_speed_of_the_machine_is_used() -> None:
    costs = Costs(SETTINGS).estimate(plan_cells(CELLS), set(CELLS))
    first, second = (costs[cell] for cell in CELLS)
    assert (first.source, second.source) == (MACHINE, MACHINE)
    assert first.seconds > second.seconds > 0


@pytest.mark.parametrize("editor", ["memit", "identity"])
def test_an_edit_of_another_editor_stands_in_unless_nothing_is_edited(editor: str) -> None:
    known = finished("rome", edited_answers=20.0, editing=30.0)
    cell = Cell("pocket-gpt2", editor, "", "batch-single", 10, 10)
    cost = Costs(SETTINGS, [known]).estimate(plan_cells([cell]), {cell})[cell]
    assert cost.seconds == (20.0 if editor == "identity" else 80.0)
