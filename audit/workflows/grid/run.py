"""Running a grid: each cell an audit of its own, several side by side, and none twice.

A finished cell lies in its file; a later run computes its signature again and takes it when nothing that it depends on
has changed. So a grid that was interrupted goes on with the cell that it had begun.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

from audit.audit import Audit
from audit.errors import AuditError
from audit.measures.integrity import entry_shares
from audit.models.patches import originals_kept
from audit.settings.options import AuditSettings
from audit.workflows.grid.cells import Cell
from audit.workflows.grid.results import CellResult, cell_file, read_cell, write_cell

Finished = Callable[[CellResult, bool, int, int], None]  # (result, taken as it was, cells done, cells in all)


@dataclass(frozen=True)
class GridSettings:
    """What all cells of a grid share; `abilities` empty means all eight.

    Cells run here in `workers` processes, or as tasks of the Ray cluster at `ray`.
    """

    root: Path
    limit: int = 200
    seed: int = 0
    edits: str = "pocket"
    device: str = "auto"
    dtype: str = "auto"
    abilities: tuple[str, ...] = ()
    workers: int = 1
    ray: str | None = None

    def audit_settings(self, cell: Cell) -> AuditSettings:
        """The settings of one cell's audit."""
        return AuditSettings(
            model=cell.model,
            editor=cell.editor,
            restraint=cell.restraint or None,
            edits=self.edits,
            edit_mode=cell.mode,
            edit_count=cell.count,
            edit_batch_size=cell.batch_size if cell.mode == "batch-sequential" else None,
            limit=self.limit,
            seed=self.seed,
            device=self.device,
            dtype=self.dtype,
            triage=False,  # a cell is there to be measured
        )


@dataclass(frozen=True)
class FailedCell:
    """A cell that could not be run, and the sentence that says why."""

    cell: Cell
    reason: str


def run_grid(cells: Sequence[Cell], settings: GridSettings, finished: Finished | None = None) -> tuple[FailedCell, ...]:
    """Run every cell that is not finished yet; results lie in the folder, failures come back.

    With `workers` above 1 each worker is a process with one thread, and cells are handed out one by one.
    """
    for cell in cells:
        settings.audit_settings(cell)  # what cannot be right is found before the first long thing
    failed: list[FailedCell] = []
    for done, (_, outcome) in enumerate(_outcomes(cells, settings), start=1):
        if isinstance(outcome, FailedCell):
            failed.append(outcome)
        elif finished is not None:
            finished(read_cell(outcome[0]), outcome[1], done, len(cells))
    return tuple(failed)


def run_cell(cell: Cell, settings: GridSettings) -> tuple[Path, bool]:
    """Run one cell unless its file holds it already; the file, and whether it did.

    Raises:
        AuditError: the audit cannot be run.
    """
    return _kept(cell, settings, measure_cell(cell, settings, kept_signature(cell, settings)))


def measure_cell(cell: Cell, settings: GridSettings, kept: str | None) -> CellResult | None:
    """Run one cell; None where it would have the signature `kept`, that of a result that is there.

    Raises:
        AuditError: the audit cannot be run.
    """
    audit = Audit(settings.audit_settings(cell))
    audit.prepare()
    signature = audit.signature(settings.abilities)
    if signature == kept:
        return None
    report = audit.run(settings.abilities or None)
    return CellResult(cell, report, _entry_shares(audit), signature)


def kept_signature(cell: Cell, settings: GridSettings) -> str | None:
    """The signature of the result in the cell's file, if there is one."""
    file = cell_file(cell, settings.root)
    try:
        return read_cell(file).signature if file.exists() else None
    except AuditError:
        return None  # half a file, or an older format: run the cell again


def _kept(cell: Cell, settings: GridSettings, result: CellResult | None) -> tuple[Path, bool]:
    """The cell's file, with a fresh result in it where there is one, and whether it held the cell already."""
    if result is None:
        return cell_file(cell, settings.root), True
    return write_cell(result, settings.root), False


def _entry_shares(audit: Audit) -> dict[float, float]:
    """The mean over the edited models."""
    measured = []
    for edited in audit.edited:
        with originals_kept(audit.lm) as originals:
            edited.patch.write(audit.lm, originals)
            measured.append(entry_shares(originals))
    return {threshold: fmean(one[threshold] for one in measured) for threshold in measured[0]}


def _outcomes(cells: Sequence[Cell], settings: GridSettings) -> Iterator[tuple[Cell, tuple[Path, bool] | FailedCell]]:
    if settings.ray is not None:
        from audit.workflows.grid.ray import results_on_ray  # only where it is asked for: Ray is an extra

        for cell, result in results_on_ray(cells, settings, settings.ray):
            yield cell, result if isinstance(result, FailedCell) else _kept(cell, settings, result)
        return
    if settings.workers == 1:
        for cell in cells:
            yield cell, _outcome(cell, settings)
        return
    with _pool(settings.workers) as pool:
        waiting = {pool.submit(_outcome, cell, settings): cell for cell in cells}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Spawned, not forked: a forked process that has used torch's threads can hang."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt ends with the cells under way


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _outcome(cell: Cell, settings: GridSettings) -> tuple[Path, bool] | FailedCell:
    try:
        return run_cell(cell, settings)
    except AuditError as error:
        return FailedCell(cell, str(error))
