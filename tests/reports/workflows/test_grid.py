"""Tables: every number of every cell, once."""

import csv
import io

from audit.reports.workflows.grid import FIELDS, grid_csv, grid_markdown
from tests.workflows.grid.made_results import made, sequence

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
