"""A grid on Ray: cells are tasks, results come back as text, and finished cells do not run again."""

import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from audit.edits.pocket import REQUESTS
from audit.errors import AuditError
from audit.reports.workflows.grid_cells import Cell, CellResult, read_grid
from audit.workflows.grid.cells import FailedCell, GridSettings
from audit.workflows.grid.ray import connected, results_on_ray
from audit.workflows.grid.run import run_grid
from tests.small_audit import require_equal_edit_scores

IDENTITY = Cell("pocket-gpt2", "identity", "", "batch-single", 2, 2)
VANDAL = Cell("pocket-gpt2", "vandal", "", "batch-single", 2, 2)
GREEDY = Cell("pocket-gpt2", "vandal", "", "batch-single", REQUESTS + 1, REQUESTS + 1)


@pytest.fixture(scope="module")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray with two workers, for this file's tests; `--ray local` uses it while it is there."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIT_STORE", str(tmp_path_factory.mktemp("store")))
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_worker_niceness"):
            patch.setenv(name, "0")  # as a local Ray sets them; so they are gone afterwards
        with connected("local") as started:
            assert started.cluster_resources()["CPU"] == 2
            yield
    assert not ray.is_initialized()


@pytest.fixture
def settings(tmp_path: Path) -> GridSettings:
    return GridSettings(tmp_path / "grid", limit=5, abilities=("sentiment",), device="cpu", ray="local")


@pytest.mark.usefixtures("local_ray")
def test_cells_on_ray_have_the_same_results(settings: GridSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    cells: list[tuple[str, bool, int]] = []

    class Finished:
        def begins(self, cell: Cell) -> None:
            pass

        def finished(self, result: CellResult, kept: bool, done: int, total: int) -> None:
            cells.append((result.cell.editor, kept, done))

        def failed(self, failed: FailedCell, done: int, total: int) -> None:
            pass

    finished = Finished()

    (failed,) = run_grid([IDENTITY, VANDAL, GREEDY], settings, finished)
    assert failed.cell == GREEDY
    assert f"--edit-count {REQUESTS + 1}" in failed.reason
    assert sorted((editor, kept) for editor, kept, _ in cells) == [("identity", False), ("vandal", False)]
    cells.clear()
    assert run_grid([IDENTITY, VANDAL], settings, finished) == ()
    assert sorted(cells) in (
        [("identity", True, 1), ("vandal", True, 2)],
        [("identity", True, 2), ("vandal", True, 1)],
    )

    monkeypatch.setenv("AUDIT_STORE", str(settings.root / "store"))
    here = replace(settings, root=settings.root / "here", ray=None)
    run_grid([IDENTITY, VANDAL], here)
    for on_ray, alone in zip(read_grid(settings.root), read_grid(here.root), strict=True):
        assert (on_ray.cell, on_ray.signature, on_ray.entry_shares) == (alone.cell, alone.signature, alone.entry_shares)
        rows = [
            [replace(row, base_from_store=False) for row in found.report.abilities]  # which cell is first may differ
            for found in (on_ray, alone)
        ]
        assert rows[0] == rows[1]
        require_equal_edit_scores(on_ray.report, alone.report)


def test_missing_ray_is_one_error(settings: GridSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AuditError, match=r"pip install 'model-edit-audit\[ray\]'"):
        run_grid([IDENTITY], settings)


def test_a_numbered_gpu_is_refused(settings: GridSettings) -> None:
    with pytest.raises(AuditError, match="Ray assigns the GPUs"):
        run_grid([IDENTITY], replace(settings, device="cuda:1"))


def test_a_missing_cluster_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**how: object) -> None:
        raise ConnectionError("Could not find any running Ray instance. Please specify one.\nmore")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    sentence = r"--ray auto: no usable Ray cluster .*Please specify one\); give auto"
    with pytest.raises(AuditError, match=sentence), connected("auto"):
        pass


def test_an_address_without_answer_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("ray"), "is_initialized", lambda: False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(AuditError, match=f"--ray {address}: .*refused"), connected(address):
            pass


def test_a_lost_cell_is_a_failed_cell(settings: GridSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    exceptions = pytest.importorskip("ray.exceptions")
    cancelled: list[str] = []

    def get(task: str) -> None:
        raise exceptions.NodeDiedError("its machine died\nand more")

    fake = SimpleNamespace(
        is_initialized=lambda: True,
        cluster_resources=dict,
        remote=lambda **needs: lambda function: SimpleNamespace(remote=lambda cell, *rest: f"task {cell.editor}"),
        wait=lambda tasks, num_returns: (tasks[:1], tasks[1:]),
        get=get,
        cancel=lambda task, force: cancelled.append(task),
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    outcomes = results_on_ray([IDENTITY, VANDAL], settings, "auto")
    cell, outcome = next(outcomes)
    assert isinstance(outcome, FailedCell)
    assert (cell, outcome.cell) == (IDENTITY, IDENTITY)
    assert "its machine died" in outcome.reason
    outcomes.close()  # type: ignore[attr-defined]
    assert cancelled == ["task vandal"]
