"""Tables: every number of every cell, once."""

import csv
import io
import math
from dataclasses import replace

import pytest

from audit.reports.workflows.grid import FIELDS, grid_csv, grid_markdown
from audit.reports.workflows.grid_shares import GridShares
from audit.verdicts.evidence import Kept
from tests.workflows.grid.made_results import graded, graded_sequence, made, sequence

RESULTS = [
    *sequence("rome", {1: 0.9, 10: 0.5}),
    made("memit", "batch-single", 10, {"reasoning": 0.8, "sentiment": 0.88}, model="pocket-llama"),
]


def test_csv_has_a_line_for_every_measure_of_every_cell() -> None:
    rows = list(csv.DictReader(io.StringIO(grid_csv(RESULTS))))
    assert list(rows[0]) == list(FIELDS)
    reasoning = [row for row in rows if row["measure"] == "reasoning"]
    assert [(row["model"], row["edits"], row["edited"], row["outcome"]) for row in reasoning] == [
        ("pocket-gpt2", "1", "0.9000", "PASS"),
        ("pocket-gpt2", "10", "0.5000", "FAIL"),
        ("pocket-llama", "10", "0.8000", "FAIL"),
    ]
    measures = {row["measure"] for row in rows}
    assert {"efficacy (autoregressive)", "entries changed by more than 0.1"} <= measures


def test_markdown_has_a_table_a_model_with_marks_where_an_ability_failed() -> None:
    page = grid_markdown(RESULTS)
    assert page.count("## ") == 2
    assert "| rome, instance-sequential | 10 | 0.500 ✗ | 0.500 ✗ | 0.400 | 1.00 | 1.00 |  |" in page
    assert "| unedited | 0 | 0.900 | 0.900 |" in page
    assert "| memit, batch-single | 10 | 0.800 ✗ | 0.880 |" in page


def test_a_grid_with_scores_has_shares_tests_and_noise() -> None:
    cells = [
        *graded_sequence("rome", {1: 1.0, 10: 0.6}),
        *graded_sequence("rome", {10: 0.8}, restraint="rect:0.4"),
        graded("memit", "batch-single", 10, 0.9),
    ]
    page = grid_markdown(cells)
    assert "| reasoning | accuracy | likelihood | standard | 40 |" in page
    assert "| yes | 2e-07 |" in page
    (ten, *_) = (line for line in page.splitlines() if line.startswith("| rome, instance-sequential | 10 | 0.6"))
    assert "| -0.4" in ten  # from fewer edits
    (rect, *_) = (
        line for line in page.splitlines() if line.startswith("| rome + rect:0.4, instance-sequential | 10 | 0.8")
    )
    assert "| +0.2" in rect  # from no restraint
    assert "2 of 2" in ten
    assert "4.0 processor hours in 4 cells" in page
    assert "Different edits" not in page
    rows = [row for row in csv.DictReader(io.StringIO(grid_csv(cells))) if row["edits"] == "10"]
    reasoning = next(row for row in rows if row["measure"] == "reasoning" and row["editor"] == "rome")
    assert 0.5 < float(reasoning["kept_lower"]) < float(reasoning["kept"]) < float(reasoning["kept_upper"]) < 0.65
    assert float(reasoning["harm_p"]) <= float(reasoning["harm_p_holm"]) < 0.05
    assert (reasoning["reading"], reasoning["protocol"], reasoning["n"]) == ("likelihood", "standard", "40")
    assert {"mean kept", "seconds, processor"} <= {row["measure"] for row in rows}


def test_cells_with_other_edit_requests_are_named() -> None:
    one, other = graded("rome", "instance-sequential", 10, 0.9), graded("memit", "batch-single", 10, 0.9)
    other = replace(other, report=replace(other.report, fingerprints={"edits": "others"}))
    assert "pocket-gpt2, pocket, seed 0, 10 edits (memit, rome)." in grid_markdown([one, other])


def test_a_limit_that_nothing_bounds_is_written_as_infinite(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a difference on scores of 0 and 1 of which too few changed."""
    monkeypatch.setattr(GridShares, "difference", lambda *_: Kept(-0.05, -math.inf, 0.0943))
    assert "| -0.050 [-∞, 0.095] |" in grid_markdown(graded_sequence("rome", {1: 1.0, 10: 0.6}))
