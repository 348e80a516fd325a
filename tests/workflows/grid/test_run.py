"""Running a grid: finished cells do not run again, and failed cells do not stop the others."""

from dataclasses import replace
from pathlib import Path

import pytest

from audit.edits.pocket import REQUESTS
from audit.errors import AuditError
from audit.reports.workflows.grid_cells import Cell, CellResult, read_grid
from audit.workflows.grid.cells import FailedCell, GridSettings
from audit.workflows.grid.run import run_grid

IDENTITY = Cell("pocket-gpt2", "identity", "", "batch-single", 2, 2)
VANDAL = Cell("pocket-gpt2", "vandal", "", "batch-single", 2, 2)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GridSettings:
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    return GridSettings(tmp_path / "grid", limit=12, abilities=("sentiment",))


class Finished(list[tuple[str, bool, int, int]]):
    """The cells that a grid reported while it ran."""

    def begins(self, cell: Cell) -> None:
        pass

    def finished(self, result: CellResult, kept: bool, done: int, total: int) -> None:
        self.append((result.cell.editor, kept, done, total))

    def failed(self, failed: FailedCell, done: int, total: int) -> None:
        pass


def test_a_cell_runs_again_only_if_its_signature_changes(settings: GridSettings) -> None:
    first, second, third = Finished(), Finished(), Finished()
    assert run_grid([IDENTITY, VANDAL], settings, first) == ()
    assert first == [("identity", False, 1, 2), ("vandal", False, 2, 2)]
    run_grid([IDENTITY, VANDAL], settings, second)
    assert [kept for _, kept, _, _ in second] == [True, True]
    run_grid([IDENTITY], replace(settings, seed=1), third)
    assert [kept for _, kept, _, _ in third] == [False]

    identity, vandal = read_grid(settings.root)
    assert (identity.mean_drop, set(identity.entry_shares.values())) == (0, {0.0})
    assert vandal.mean_drop > 0.1
    assert 0.5 < vandal.entry_shares[0.1] <= 1


def test_a_damaged_cell_runs_again(settings: GridSettings) -> None:
    run_grid([IDENTITY], settings)
    (file,) = (settings.root / "cells").glob("*.json")
    file.write_text(file.read_text(encoding="utf-8")[:100], encoding="utf-8")
    finished = Finished()
    run_grid([IDENTITY], settings, finished)
    assert [kept for _, kept, _, _ in finished] == [False]
    assert len(read_grid(settings.root)) == 1


def test_a_failed_cell_has_a_reason_and_does_not_stop_the_others(settings: GridSettings) -> None:
    finished = Finished()
    greedy = replace(VANDAL, count=REQUESTS + 1, batch_size=REQUESTS + 1)
    (failed,) = run_grid([greedy, IDENTITY], settings, finished)
    assert failed.cell == greedy
    assert f"--edit-count {REQUESTS + 1}" in failed.reason
    assert [editor for editor, _, _, _ in finished] == ["identity"]


def test_two_workers_give_the_results_of_one(settings: GridSettings) -> None:
    run_grid([IDENTITY, VANDAL], settings)
    alone = [(result.cell, result.signature, result.mean_drop) for result in read_grid(settings.root)]
    side_by_side = replace(settings, root=settings.root.parent / "other", workers=2)
    run_grid([IDENTITY, VANDAL], side_by_side)
    assert [(one.cell, one.signature, one.mean_drop) for one in read_grid(side_by_side.root)] == alone


def test_wrong_settings_are_found_before_the_first_cell(settings: GridSettings) -> None:
    with pytest.raises(AuditError, match="--device"):
        run_grid([IDENTITY], replace(settings, device="gpu"))
    assert not settings.root.exists()
