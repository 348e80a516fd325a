"""The processes that run a grid: each takes the cells of one edit plan after another.

    for event in events_of_workers(plan_cells(cells), settings):
        ...                                         # Begin(cell), End(cell)

If a process is lost (a kill, the end of memory), a new one tries the cell that it was in once more. The files of a cell
are written in one step each, so workers can be ended at any time.
"""

import signal
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from audit.errors import AuditError
from audit.reports.workflows.grid_cells import Cell, write_cell
from audit.workflows.grid.bench import Bench
from audit.workflows.grid.cells import FailedCell, GridSettings
from audit.workflows.grid.plan_cells import PlanCells

TRIES = 2  # of a cell whose process is lost


@dataclass(frozen=True)
class Begin:
    """A cell begins."""

    cell: Cell


@dataclass(frozen=True)
class End:
    """A cell is done. Unless it failed, its files are written; `kept` says that they were up to date before."""

    cell: Cell
    kept: bool = False
    failed: FailedCell | None = None


Event = Begin | End


def events_of(bench: Bench, cells: PlanCells, settings: GridSettings) -> Iterator[Event]:
    """The events of this process, which runs the cells and writes their files."""
    outcomes = bench.outcomes(cells)
    for cell in cells.cells:
        yield Begin(cell)
        _, outcome = next(outcomes)
        if isinstance(outcome, FailedCell):
            yield End(cell, failed=outcome)
            continue
        try:
            if outcome is not None:
                write_cell(outcome, settings.root, settings.spellings)
        except AuditError as error:  # a full disk
            yield End(cell, failed=FailedCell(cell, str(error)))
        else:
            yield End(cell, kept=outcome is None)


def events_of_workers(cells: Sequence[PlanCells], settings: GridSettings) -> Iterator[Event]:
    """The events of `settings.workers` processes, which end with this iterator."""
    waiting, tries = deque(cells), Counter[Cell]()
    workers: dict[Connection, _Worker] = {}
    try:
        while waiting or workers:
            while waiting and len(workers) < settings.workers:
                connection, process = _started(settings)
                workers[connection] = _Worker(process)
            for connection, worker in list(workers.items()):
                if worker.idle and waiting:
                    worker.cells = waiting.popleft()
                    connection.send(worker.cells)
                elif worker.idle:
                    connection.send(None)  # the process ends
                    del workers[connection]
            for ready in wait(list(workers)) if workers else ():  # without any it would wait for ever
                assert isinstance(ready, Connection)
                worker = workers[ready]
                try:
                    event: Event = ready.recv()
                except (EOFError, OSError):
                    del workers[ready]
                    yield from _lost(worker, waiting, tries)
                    continue
                if isinstance(event, End):
                    worker.drop(event.cell)
                yield event
    finally:
        for worker in workers.values():
            worker.process.terminate()


@dataclass
class _Worker:
    """A process with the cells that it still has to finish."""

    process: BaseProcess
    cells: PlanCells | None = None

    @property
    def idle(self) -> bool:
        return self.cells is None

    def drop(self, done: Cell) -> None:
        assert self.cells is not None
        left = tuple(cell for cell in self.cells.cells if cell != done)
        self.cells = replace(self.cells, cells=left) if left else None


def _lost(worker: _Worker, waiting: deque[PlanCells], tries: Counter[Cell]) -> Iterator[Event]:
    """Put the cells of a lost process back, except the one that it was in if that was tried often enough."""
    worker.process.join()
    if worker.cells is None:
        return
    cell = worker.cells.cells[0]
    tries[cell] += 1
    if tries[cell] == TRIES:
        code = worker.process.exitcode
        reason = f"its process ended {TRIES} times (exit code {code}), perhaps for lack of memory; use fewer --workers."
        worker.drop(cell)
        yield End(cell, failed=FailedCell(cell, reason))
    if worker.cells is not None:
        waiting.appendleft(worker.cells)


def _started(settings: GridSettings) -> tuple[Connection, BaseProcess]:
    """A new process; spawned, because a forked process that has used torch's threads can hang."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, settings), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process ends the connection
    return ours, process


def _work(connection: Connection, settings: GridSettings) -> None:
    """Runs in the process, with one thread; an interrupt is for the first process, which ends the others."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    bench = Bench(settings)
    while (cells := connection.recv()) is not None:
        for event in events_of(bench, cells, settings):
            connection.send(event)
