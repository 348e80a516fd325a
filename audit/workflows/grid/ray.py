"""The cells of a grid as tasks of a Ray cluster, which may have many machines.

The machines need not share a disk: a task gets the signature of the result that this machine already has, if any, and
sends its own result back as text. Each machine needs this package, and the models and edit requests under the same
names.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from audit.errors import AuditError, first_line
from audit.reports.workflows.grid_cells import Cell, CellResult, cell_from_json, cell_json
from audit.reports.workflows.grid_scores import scores_jsonl
from audit.workflows.grid.bench import Bench, kept_signature
from audit.workflows.grid.cells import FailedCell, GridSettings
from audit.workflows.grid.plan_cells import plan_cells

LOCAL = "local"
LOCAL_WORKERS = 2
ANSWERS_WITHIN = 10.0  # seconds
LOCAL_OBJECTS = 100 * 1024**2  # bytes; results are texts of some kilobytes
MEASURED, KEPT, FAILED = "measured", "kept", "failed"


def results_on_ray(
    cells: Sequence[Cell], settings: GridSettings, address: str
) -> Iterator[tuple[Cell, CellResult | FailedCell | None]]:
    """Every cell with its result, in the order in which they finish; None if the result on this machine is up to date.

    Raises:
        AuditError: Ray is not installed, or there is no cluster at `address`.
    """
    if settings.device.startswith("cuda:"):
        raise AuditError(f"--device {settings.device} with --ray: Ray assigns the GPUs; use auto, cpu or cuda.")
    with connected(address, settings.workers) as ray:
        gpus = 1 if settings.device == "cuda" or _assigns_gpus(ray, settings.device) else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus)(_remote_cell)
        running = {task.remote(cell, settings, kept_signature(cell, settings)): cell for cell in cells}
        try:
            while running:
                (done,), _ = ray.wait(list(running), num_returns=1)
                cell = running.pop(done)
                yield cell, _received(ray, done, cell)
        finally:
            for task_left in running:
                ray.cancel(task_left, force=True)


@contextmanager
def connected(address: str, workers: int = 1) -> Iterator[Any]:
    """Ray, connected to the cluster at `address`; "auto" is the running cluster of this machine.

    "local" starts a cluster with at least two workers and stops it afterwards. An existing connection is used and kept.
    """
    try:
        import ray
    except ImportError:
        raise AuditError("--ray needs Ray, which is not installed: pip install 'model-edit-audit[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    how: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no statistics from a short-lived cluster
        os.environ.setdefault("RAY_worker_niceness", "0")  # by default workers have a low priority
        how |= {"num_cpus": max(workers, LOCAL_WORKERS), "object_store_memory": LOCAL_OBJECTS}
        how |= {"include_dashboard": False}
    try:
        _require_answer(address)
        ray.init(**how)
    except (OSError, ValueError, RuntimeError) as error:
        raise AuditError(
            f"--ray {address}: no usable Ray cluster ({first_line(error)}); give auto, local or HOST:PORT."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raise `OSError` if nothing answers at HOST:PORT or ray://HOST:PORT; Ray itself would retry for 15 minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=ANSWERS_WITHIN).close()


def _assigns_gpus(ray: Any, device: str) -> bool:
    return device == "auto" and ray.cluster_resources().get("GPU", 0) > 0


def _remote_cell(cell: Cell, settings: GridSettings, kept: str | None) -> tuple[str, str, str]:
    """Runs on the cluster: the outcome, and two texts: of the result and its scores, or reason and traceback."""
    ((_, outcome),) = Bench(settings, lambda _: kept).outcomes(plan_cells([cell])[0])
    if isinstance(outcome, FailedCell):
        return FAILED, outcome.reason, outcome.traceback
    return (KEPT, "", "") if outcome is None else (MEASURED, cell_json(outcome), scores_jsonl(outcome.scores))


def _received(ray: Any, task: Any, cell: Cell) -> CellResult | FailedCell | None:
    from ray.exceptions import RayError, RayTaskError

    try:
        outcome, text, more = ray.get(task)
    except RayTaskError:
        raise  # an error in this package, with its traceback
    except RayError as error:  # its machine or process was lost more often than Ray retries
        return FailedCell(cell, f"Ray lost it ({first_line(error)}); run the grid again.")
    if outcome == FAILED:
        return FailedCell(cell, text, more)
    return None if outcome == KEPT else cell_from_json(text, more, origin="a cell from Ray")
