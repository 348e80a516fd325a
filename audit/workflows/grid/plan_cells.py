"""Cells that one edit plan serves, so that no edit is computed twice.

    for cells in plan_cells(grid):
        cells.plan      # the cell whose edits are made: the longest of a sequence, without restraints on its result
        cells.cells     # the cells that are measured with them, smallest number of edits first

The model after ten edits of a sequence of a hundred is the model of a sequence of ten. PRUNE restrains the sum of all
edits, and a single batch has one step, so both work on the finished edits of a cell without restraint.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from audit.editors.restraints.choice import parse_restraint
from audit.reports.workflows.grid_cells import Cell


@dataclass(frozen=True)
class PlanCells:
    """The cells that the edits of `plan` serve, itself one of them if the grid has it."""

    plan: Cell
    cells: tuple[Cell, ...]


def plan_cells(cells: Sequence[Cell]) -> tuple[PlanCells, ...]:
    """The cells by the edit plan that serves them, in the order in which the first of each appears."""
    found: dict[Cell, list[Cell]] = {}
    for cell in cells:
        source = unrestrained(cell)
        # Cells of a sequence differ in their number of edits; a larger batch is another edit.
        key = replace(source, count=0) if cell.mode.endswith("-sequential") else source
        found.setdefault(key, []).append(cell)
    return tuple(
        PlanCells(
            replace(key, count=max(cell.count for cell in some)),
            tuple(sorted(dict.fromkeys(some), key=lambda cell: (cell.count, cell.restraint))),
        )
        for key, some in found.items()
    )


def unrestrained(cell: Cell) -> Cell:
    """The cell without its restraint if the restraint can be applied to the finished edits; else the cell itself."""
    if not cell.restraint or cell.mode == "instance-single":
        return cell
    once = cell.mode == "batch-single" or parse_restraint(cell.restraint).kind == "prune"
    return replace(cell, restraint="") if once else cell
