"""The run of a grid: each cell is an audit, several cells run at once, and no finished cell runs again.

A finished cell is a file with its signature. A later run computes the signature again and keeps the file if it is the
same, so an interrupted grid continues with the cell that it stopped in.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from audit.errors import AuditError
from audit.reports.workflows.grid import Cell, CellResult, cell_file, read_cell, write_cell
from audit.workflows.grid.cells import FailedCell, GridSettings, kept_signature, measure_cell

Finished = Callable[[CellResult, bool, int, int], None]  # (result, from an earlier run, cells done, cells in all)


def run_grid(cells: Sequence[Cell], settings: GridSettings, finished: Finished | None = None) -> tuple[FailedCell, ...]:
    """Run every cell that is not finished yet, write the results to the grid's folder, and return the failures.

    With more than one of `workers`, each is a process with one thread, which takes one cell after the other.
    """
    for cell in cells:
        settings.audit_settings(cell)  # raises on wrong settings before the first cell runs
    failed: list[FailedCell] = []
    for done, outcome in enumerate(_outcomes(cells, settings), start=1):
        if isinstance(outcome, FailedCell):
            failed.append(outcome)
        elif finished is not None:
            finished(read_cell(outcome[0]), outcome[1], done, len(cells))
    return tuple(failed)


def run_cell(cell: Cell, settings: GridSettings) -> tuple[Path, bool]:
    """Run one cell unless its file has its result already; returns the file, and whether it had.

    Raises:
        AuditError: the audit cannot be run.
    """
    return _kept(cell, settings, measure_cell(cell, settings, kept_signature(cell, settings)))


def _kept(cell: Cell, settings: GridSettings, result: CellResult | None) -> tuple[Path, bool]:
    """The cell's file, written if there is a new result, and whether the result was there already."""
    if result is None:
        return cell_file(cell, settings.root), True
    return write_cell(result, settings.root), False


def _outcomes(cells: Sequence[Cell], settings: GridSettings) -> Iterator[tuple[Path, bool] | FailedCell]:
    if settings.ray is not None:
        from audit.workflows.grid.ray import results_on_ray  # Ray is an optional dependency

        for cell, result in results_on_ray(cells, settings, settings.ray):
            yield result if isinstance(result, FailedCell) else _kept(cell, settings, result)
        return
    if settings.workers == 1:
        for cell in cells:
            yield _outcome(cell, settings)
        return
    with _pool(settings.workers) as pool:
        for future in as_completed([pool.submit(_outcome, cell, settings) for cell in cells]):
            yield future.result()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Spawned, not forked: a forked process that has used torch's threads can hang."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # after an interrupt only the running cells finish


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _outcome(cell: Cell, settings: GridSettings) -> tuple[Path, bool] | FailedCell:
    try:
        return run_cell(cell, settings)
    except AuditError as error:
        return FailedCell(cell, str(error))
