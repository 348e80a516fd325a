"""The file of a cell has everything that a table needs; a damaged file is an error."""

import math
from pathlib import Path

import pytest

from audit.errors import AuditError
from audit.reports.workflows.grid_cells import by_series, read_cell, read_grid, write_cell
from audit.reports.workflows.grid_shares import CellShares
from tests.workflows.grid.made_results import graded, made, sequence


def test_a_cell_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = made("rome", "instance-sequential", 5, {"reasoning": 0.5, "sentiment": 0.7}, efficacy=0.8)
    back = read_cell(write_cell(result, tmp_path))
    assert (back.cell, back.signature, back.entry_shares) == (result.cell, "s", {0.1: 0.2})
    assert back.mean_drop == pytest.approx(0.3)
    assert back.mean_base == pytest.approx(0.9)
    assert (back.immediate_efficacy, back.edit_score("locality")) == (0.8, None)
    assert [row.ability for row in back.report.abilities] == ["reasoning", "sentiment"]


def test_a_folder_is_read_in_the_order_of_cells(tmp_path: Path) -> None:
    for result in (*sequence("rome", {10: 0.5, 5: 0.6}), made("memit", "batch-single", 20, 0.8)):
        write_cell(result, tmp_path)
    assert [(one.cell.editor, one.cell.count) for one in read_grid(tmp_path)] == [
        ("memit", 20),
        ("rome", 5),
        ("rome", 10),
    ]
    curves = by_series(read_grid(tmp_path))
    assert [len(cells) for cells in curves.values()] == [1, 2]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": "another"}'])
def test_a_damaged_cell_is_one_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content, encoding="utf-8")
    with pytest.raises(AuditError, match=r"x\.json"):
        read_cell(tmp_path / "x.json")


def test_an_empty_folder_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="holds no cells"):
        read_grid(tmp_path)


def test_scores_and_noise_are_read_as_they_were_written(tmp_path: Path) -> None:
    result = graded("rome", "instance-sequential", 5, 0.7, seed=2)
    file = write_cell(result, tmp_path)
    assert file.name == "pocket-gpt2_rome_instance-sequential_seed2_5x1.json"
    back = read_cell(file)
    assert (back.cell, back.noise, back.processor_seconds) == (result.cell, result.noise, 3600.0)
    assert CellShares(back).mean == pytest.approx(CellShares(result).mean, abs=1e-6)
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, file.stem + ".scores.jsonl"]


def test_a_cell_of_version_1_is_read(tmp_path: Path) -> None:
    (old,) = (Path(__file__).parents[3] / "reports/sample/grid/cells").glob("pocket-gpt2_kn_*_10x1.json")
    assert '"model-edit-audit grid cell 1"' in old.read_text(encoding="utf-8")
    result = read_cell(old)
    assert (result.cell.seed, result.cell.edits, result.cell.config, result.scores) == (0, "pocket", (), ())
    assert math.isnan(CellShares(result).mean.share)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cells").touch()
    with pytest.raises(AuditError, match=r"cannot be written .*free some space"):
        write_cell(made("rome", "instance-sequential", 5, 0.9), tmp_path)
