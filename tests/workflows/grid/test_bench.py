"""Cells share edits and base answers, and have the results that an audit of their own has."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.audit import Audit
from audit.reports.workflows.grid_cells import Cell, CellResult, read_cell, write_cell
from audit.workflows.grid import bench as bench_module
from audit.workflows.grid.bench import Bench, Outcome
from audit.workflows.grid.cells import FailedCell, GridModel, GridSettings
from audit.workflows.grid.plan_cells import plan_cells
from tests.fake_editors import Nudge
from tests.small_audit import SmallWorld, build

EDITOR = "tests.fake_editors:Nudge"
SEQUENCE = Cell("tiny", EDITOR, "", "instance-sequential", 1, 4, edits="four")
BATCH = Cell("tiny", EDITOR, "", "batch-single", 3, 3, edits="four")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture
def settings(world: SmallWorld, tmp_path: Path) -> GridSettings:
    return GridSettings(
        tmp_path / "grid",
        limit=6,
        data=str(world.rows),
        reading={"": "likelihood"},
        prompting="plain",
        device="cpu",
        store=tmp_path / "store",
        models={"tiny": GridModel(str(world.model))},
        edits={"four": str(world.edits)},
        abilities=("open_qa", "sentiment"),
    )


@pytest.fixture
def edits(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Counts the calls of an editor's `edit`, by the number of requests."""
    calls, edit = Counter[int](), Nudge.edit

    def counted(self: Nudge, lm: Any, requests: Any, progress: Any = None) -> Any:
        calls[len(requests)] += 1
        return edit(self, lm, requests, progress)

    monkeypatch.setattr(Nudge, "edit", counted)
    return calls


def outcomes(cells: list[Cell], settings: GridSettings, bench: Bench | None = None) -> dict[Cell, Outcome]:
    bench = bench or Bench(settings)
    return dict(pair for one in plan_cells(cells) for pair in bench.outcomes(one))


def results(cells: list[Cell], settings: GridSettings) -> Iterator[CellResult]:
    for outcome in outcomes(cells, settings).values():
        assert isinstance(outcome, CellResult), outcome
        yield outcome


def test_an_edit_of_a_sequence_is_computed_once_for_all_its_checkpoints(
    settings: GridSettings, edits: Counter[int]
) -> None:
    cells = [replace(SEQUENCE, count=count) for count in (4, 1, 2)] + [replace(SEQUENCE, restraint="prune", count=2)]
    found = {result.cell: result for result in results(cells, settings)}
    assert edits == {1: 4}
    assert sum(result.edits_made for result in found.values()) == 4
    for cell in (cells[2], cells[3]):  # the same as with an edit plan of its own
        own = Audit(replace(settings.audit_settings(cell), store=settings.root / "other"))
        report = own.run(settings.abilities)
        shared = found[cell].report
        assert shared.fingerprints["patch"] == report.fingerprints["patch"]
        assert shared.fingerprints["edits"] == report.fingerprints["edits"]
        assert [row.verdict for row in shared.abilities] == [row.verdict for row in report.abilities]
        assert shared.header.plan == report.header.plan == "2 edits, instance-sequential"
        assert shared.header.restraint == (cell.restraint or None)


def test_a_batch_is_edited_once_for_its_restraints(settings: GridSettings, edits: Counter[int]) -> None:
    cells = [replace(BATCH, restraint=restraint) for restraint in ("", "rect:0.4", "prune")]
    found = {result.cell.restraint: result for result in results(cells, settings)}
    assert edits == {3: 1}
    own = Audit(replace(settings.audit_settings(cells[1]), store=settings.root / "other")).run(settings.abilities)
    assert found["rect:0.4"].report.fingerprints["patch"] == own.fingerprints["patch"]
    assert found["rect:0.4"].entry_shares[0.01] <= found[""].entry_shares[0.01]


def test_base_answers_are_asked_once_and_seeds_change_the_edits_only(
    settings: GridSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = results([replace(BATCH, seed=seed) for seed in (0, 1)], settings)
    assert first.report.fingerprints["edits"] != second.report.fingerprints["edits"]
    assert [one.keys for one in first.scores] == [one.keys for one in second.scores]
    assert [one.scores.base for one in first.scores] == [one.scores.base for one in second.scores]
    assert all(row.base_from_store for row in second.report.abilities)
    assert set(first.noise) == {"open_qa", "sentiment"}
    assert max(noise.moved for noise in first.noise.values()) < 1e-4
    assert "--edit-seed 1" in second.report.command and "--edit-seed" not in first.report.command


def test_every_editor_gets_the_same_edits(settings: GridSettings) -> None:
    others = [replace(BATCH, editor=editor) for editor in ("identity", "ft")]
    drawn = {result.report.fingerprints["edits"] for result in results([BATCH, *others], settings)}
    assert len(drawn) == 1


def test_an_error_in_an_editor_costs_its_cell_only(settings: GridSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Nudge, lm: Any, requests: Any, progress: Any = None) -> Any:
        raise RuntimeError("a matrix is singular\nand more")

    monkeypatch.setattr(Nudge, "edit", broken)
    identity = replace(BATCH, editor="identity")
    failed, fine = outcomes([BATCH, identity], settings).values()
    assert isinstance(failed, FailedCell)
    assert failed.reason == "RuntimeError: a matrix is singular"
    assert "in broken" in failed.traceback
    assert isinstance(fine, CellResult)


def test_a_full_disk_is_one_sentence(settings: GridSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "LEAST_FREE", 1 << 80)
    (failed,) = outcomes([BATCH], settings).values()
    assert isinstance(failed, FailedCell)
    assert "MB are free" in failed.reason


def test_a_file_has_neither_paths_nor_texts_of_the_data(world: SmallWorld, settings: GridSettings) -> None:
    (result,) = results([BATCH], settings)
    spellings = [(str(world.rows), "${ROWS}"), (str(world.edits), "four.jsonl"), (str(world.model), "tiny")]
    file = write_cell(result, settings.root, spellings)
    texts = [path.read_text(encoding="utf-8") for path in file.parent.iterdir()]
    assert len(texts) == 2
    for text in texts:
        assert str(world.rows.parent) not in text
        assert not any(word in text for word in ("Velden", "Mara Lind", "film no"))
    assert "--data ${ROWS}" in read_cell(file).report.command
