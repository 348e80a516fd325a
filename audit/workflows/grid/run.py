"""The run of a grid: each cell is an audit, several cells run at once, and no finished cell runs again.

A finished cell is a file with its signature. A later run computes the signature again and keeps the file if it is the
same, so an interrupted grid continues with the cell that it stopped in.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from audit.errors import AuditError
from audit.reports.folder import write_texts
from audit.reports.workflows.grid_cells import Cell, CellResult, cell_file, read_cell, write_cell
from audit.workflows.grid.bench import Bench
from audit.workflows.grid.cells import FailedCell, GridSettings
from audit.workflows.grid.plan_cells import plan_cells
from audit.workflows.grid.workers import Begin, End, Event, events_of, events_of_workers

FAILURES_FOLDER = "failures"


class GridWatcher(Protocol):
    """Is told what happens while a grid runs; `done` counts the cells that are done, with this one, of `total`."""

    def begins(self, cell: Cell) -> None: ...

    def finished(self, result: CellResult, kept: bool, done: int, total: int) -> None: ...

    def failed(self, failed: FailedCell, done: int, total: int) -> None: ...


def run_grid(
    cells: Sequence[Cell], settings: GridSettings, watcher: GridWatcher | None = None
) -> tuple[FailedCell, ...]:
    """Run every cell that is not finished yet, write the results to the grid's folder, and return the failures.

    With more than one of `workers`, each is a process with one thread. Cells that share an edit plan run in one process
    and one after the other, so that the order is that of the plans' first cells. The traceback of an error in the
    program is written to `failures/NAME.txt`.
    """
    for cell in cells:
        settings.audit_settings(cell)  # raises on wrong settings before the first cell runs
    failed: list[FailedCell] = []
    total, done = len(dict.fromkeys(cells)), 0
    for event in _events(cells, settings):
        if isinstance(event, Begin):
            if watcher is not None:
                watcher.begins(event.cell)
            continue
        done += 1
        if event.failed is not None:
            failed.append(event.failed)
            _keep_traceback(event.failed, settings)
            if watcher is not None:
                watcher.failed(event.failed, done, total)
        elif watcher is not None:
            watcher.finished(read_cell(cell_file(event.cell, settings.root)), event.kept, done, total)
    return tuple(failed)


def finished_cells(cells: Sequence[Cell], settings: GridSettings) -> dict[Cell, CellResult]:
    """The cells whose files have results of these settings; no model is loaded, so its weights are not compared."""
    found: dict[Cell, CellResult] = {}
    for cell in cells:
        file = cell_file(cell, settings.root)
        try:
            result = read_cell(file) if file.exists() else None
        except AuditError:
            continue
        if result is not None and result.asked == settings.asked(cell):
            found[cell] = result
    return found


def _events(cells: Sequence[Cell], settings: GridSettings) -> Iterator[Event]:
    if settings.ray is not None:
        from audit.workflows.grid.ray import results_on_ray  # Ray is an optional dependency

        for cell, result in results_on_ray(cells, settings, settings.ray):
            if isinstance(result, FailedCell):
                yield End(cell, failed=result)
                continue
            if result is not None:
                write_cell(result, settings.root, settings.spellings)
            yield End(cell, kept=result is None)
    elif settings.workers == 1:
        bench = Bench(settings)
        for some in plan_cells(cells):
            yield from events_of(bench, some, settings)
    else:
        yield from events_of_workers(plan_cells(cells), settings)


def _keep_traceback(failed: FailedCell, settings: GridSettings) -> None:
    if failed.traceback:
        write_texts(settings.root / FAILURES_FOLDER, {f"{failed.cell.name}.txt": failed.traceback}, "--out")
