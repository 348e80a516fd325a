"""Which cells share the edits of one plan."""

from dataclasses import replace

from audit.reports.workflows.grid_cells import Cell
from audit.workflows.grid.plan_cells import plan_cells

SEQUENCE = Cell("m", "rome", "", "instance-sequential", 1, 100)
BATCH = Cell("m", "memit", "", "batch-single", 50, 50)


def test_the_longest_sequence_serves_the_shorter_ones_and_prune() -> None:
    ten, prune, rect = (replace(SEQUENCE, **more) for more in ({"count": 10}, {"restraint": "prune"}, RECT))
    first, second = plan_cells([ten, rect, prune, SEQUENCE])
    assert (first.plan, first.cells) == (SEQUENCE, (ten, SEQUENCE, prune))
    assert (second.plan, second.cells) == (rect, (rect,))  # RECT changes what the next edit starts from


def test_a_batch_serves_its_restraints_and_no_other_batch() -> None:
    rect, other = replace(BATCH, restraint="rect:0.4"), replace(BATCH, batch_size=10, count=10)
    assert [(one.plan, one.cells) for one in plan_cells([rect, other])] == [(BATCH, (rect,)), (other, (other,))]


def test_seeds_sources_and_settings_are_other_edits() -> None:
    cells = [SEQUENCE, replace(SEQUENCE, seed=1), replace(SEQUENCE, edits="zsre"), replace(SEQUENCE, config=("a=1",))]
    assert [one.plan for one in plan_cells(cells)] == cells


RECT = {"restraint": "rect:0.4"}
