"""The page of findings on real models says what the committed cells say."""

import re
from collections import Counter
from dataclasses import replace
from functools import cache

from audit.reports.workflows.grid_cells import CellResult, read_grid
from docs.generation.findings_page import GRID, PAGE, findings_page, unknown_figures


@cache
def cells() -> tuple[CellResult, ...]:
    return read_grid(GRID)


def test_the_tables_are_made_from_the_cells() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == findings_page(page, cells()), "run `python -m docs.generation.findings_page`"
    rows = len(re.findall(r"^\| .*\d \|$", page, re.M))
    draws = {replace(result.cell, seed=0) for result in cells() if result.cell.editor != "identity"}
    assert rows == len(draws)


def test_every_interval_on_the_page_is_one_of_the_tables() -> None:
    tables = (GRID / "grid.md").read_text(encoding="utf-8")
    assert unknown_figures(PAGE.read_text(encoding="utf-8"), tables) == []
    assert unknown_figures("keeps 0.123 [0.120, 0.129] and -0.001 [-0.010, 0.002]", "| -0.001 [-0.010, 0.002] |") == [
        "0.123 [0.120, 0.129]"
    ]


def test_the_numbers_of_cells_are_those_of_the_folder() -> None:
    done = Counter(result.cell.model for result in cells())
    total = str(done.total())
    assert re.findall(r"(\d+) have results", PAGE.read_text(encoding="utf-8")) == [total]
    status = (GRID / "README.md").read_text(encoding="utf-8")
    counts = re.findall(r"(\d+) of \d+ cells are done \((\d+) on SmolLM2-135M, (\d+) on Gemma 3 270M\)", status)
    assert counts == [(total, str(done["SmolLM2-135M-Instruct-Q4"]), str(done["gemma-3-270m-Q4"]))]
    assert f" in {total} cells" in (GRID / "grid.md").read_text(encoding="utf-8")
