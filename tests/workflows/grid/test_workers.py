"""A lost process loses one cell at most, which is tried again."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from audit.reports.workflows.grid_cells import Cell, cell_file
from audit.workflows.grid.cells import GridModel, GridSettings
from audit.workflows.grid.plan_cells import plan_cells
from audit.workflows.grid.workers import Begin, End, events_of_workers
from tests.fake_editors import Nudge
from tests.small_audit import build

KILLED = "AUDIT_TEST_KILLED"  # names a file; the process that finds it deletes it and ends at once


class Fragile(Nudge):
    """Ends its process in the first edit of all."""

    def edit(self, lm, requests, progress=None):  # type: ignore[no-untyped-def]
        if (mark := Path(os.environ[KILLED])).exists():
            mark.unlink()
            os._exit(9)
        return super().edit(lm, requests, progress)


class Deadly(Nudge):
    """Ends its process in every edit."""

    def edit(self, lm, requests, progress=None):  # type: ignore[no-untyped-def]
        os._exit(9)


def test_a_killed_worker_loses_no_other_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, mark = build(tmp_path), tmp_path / "mark"
    mark.touch()
    monkeypatch.setenv(KILLED, str(mark))
    settings = GridSettings(
        tmp_path / "grid",
        limit=3,
        data=str(world.rows),
        reading={"": "likelihood"},
        prompting="plain",
        device="cpu",
        store=tmp_path / "store",
        models={"tiny": GridModel(str(world.model))},
        edits={"four": str(world.edits)},
        abilities=("sentiment",),
        workers=2,
    )
    module = "tests.workflows.grid.test_workers"
    once = Cell("tiny", f"{module}:Fragile", "", "batch-single", 2, 2, edits="four")
    always, fine = replace(once, editor=f"{module}:Deadly"), replace(once, editor="identity")
    events = list(events_of_workers(plan_cells([once, always, fine]), settings))
    ends = {event.cell: event for event in events if isinstance(event, End)}
    assert len(ends) == 3
    assert not mark.exists()
    assert ends[once].failed is None and ends[fine].failed is None
    assert cell_file(once, settings.root).exists() and cell_file(fine, settings.root).exists()
    lost = ends[always].failed
    assert lost is not None and "its process ended 2 times (exit code 9)" in lost.reason
    assert sum(event == Begin(once) for event in events) == 2
