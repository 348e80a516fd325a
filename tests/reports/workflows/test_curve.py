"""A curve as tables and pictures: one column a number of edits, and what is written is read back."""

import csv
import io
import json
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from audit.reports.json_report import report_from_json
from audit.reports.plots.curve import curve_plot
from audit.reports.rows import EditScore, RunReport, shared_abilities
from audit.reports.workflows.curve import (
    curve_csv,
    curve_markdown,
    curve_rows,
    curve_tables,
    write_curve,
)
from tests.reports.html.pages import Page
from tests.reports.sample import FAILED, PASSED, REPORT, row_with


def points() -> tuple[RunReport, ...]:
    """One, two and four edits; reasoning fails at the last."""
    made = []
    for count, row in ((1, row_with(FAILED, outcome="PASS", edited=0.86, drop=0.0)), (2, FAILED), (4, FAILED)):
        scores = (
            EditScore("immediate efficacy", "autoregressive", 1.0, count, 0.8, 1.0),
            EditScore("efficacy", "autoregressive", 1.0 - count / 10, count, 0.5, 1.0),
            EditScore("portability", "autoregressive", None, 0),
        )
        header = replace(REPORT.header, edit_count=count, plan=f"{count} edits, instance-sequential")
        made.append(replace(REPORT, header=header, abilities=(row, PASSED), edit_scores=scores, items=()))
    return tuple(made)


def test_lines_are_scores_and_columns_numbers_of_edits() -> None:
    headings, lines = curve_rows(points())
    assert headings == ["score after edits", "0", "1", "2", "4"]
    assert lines[0] == ["reasoning", "0.860", "0.860", "0.620 ✗", "0.620 ✗"]
    assert lines[2] == ["efficacy at once", "", "1.000", "1.000", "1.000"]
    assert lines[3] == ["efficacy retained", "", "0.900", "0.800", "0.600"]
    assert len(lines) == 4


@pytest.mark.parametrize(("width", "tables"), [(200, 1), (60, 1), (40, 2), (20, 4)])
def test_a_narrow_terminal_gets_several_tables_and_nothing_is_cut(width: int, tables: int) -> None:
    stream = io.StringIO()
    made = curve_tables(points(), width)
    Console(file=stream, width=max(width, 30)).print(*made)
    assert len(made) == tables
    assert stream.getvalue().count("0.620 ✗") == 2
    assert "…" not in stream.getvalue()


def test_an_ability_that_a_point_lacks_is_left_out() -> None:
    first, *others = points()
    assert shared_abilities((replace(first, abilities=(PASSED,)), *others)) == ("sentiment",)


def test_the_long_form_holds_the_band_of_the_edited_score() -> None:
    rows: Sequence[dict[str, str]] = list(csv.DictReader(io.StringIO(curve_csv(points()))))
    (row,) = [row for row in rows if row["edits"] == "4" and row["measure"] == "reasoning"]
    assert (row["base"], row["value"], row["lower"], row["upper"]) == ("0.8600", "0.6200", "0.5690", "0.6700")
    assert (row["interval"], row["outcome"]) == ("90 %", "FAIL")
    assert {row["interval"] for row in rows if row["measure"].startswith("efficacy")} == {"95 %"}


def test_all_files_are_written_alike_each_time_and_read_back(tmp_path: Path) -> None:
    files = write_curve(points(), tmp_path / "a")
    names = ["curve.json", "curve.csv", "curve.md", "curve.png", "curve.svg", "curve.html"]
    assert [file.name for file in files] == names
    again = write_curve(points(), tmp_path / "b")
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(files, again, strict=True))
    read = [
        report_from_json(json.dumps(point), origin="curve.json")
        for point in json.loads(files[0].read_text(encoding="utf-8"))["points"]
    ]
    assert [one.header for one in read] == [one.header for one in points()]
    assert read[0].abilities == points()[0].abilities


def test_the_picture_has_a_panel_an_ability_and_one_for_the_edits() -> None:
    figure = curve_plot(points())
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["reasoning (n 200)", "sentiment (n 200)", "the edits themselves"]
    assert len(curve_plot([replace(one, edit_scores=()) for one in points()]).axes) == 2


def test_the_page_has_the_table_the_sentence_and_the_figure(tmp_path: Path) -> None:
    page = Page(write_curve(points(), tmp_path)[-1].read_text(encoding="utf-8"))
    assert page.wrong == [] and page.one("h1").text.startswith("memit on pocket-gpt2: scores against")
    assert [one.text for one in page.all("td", "FAIL")] == ["0.620 ✗", "0.620 ✗"]
    image = page.one("img").attributes["src"] or ""
    assert b64decode(image.removeprefix("data:image/svg+xml;base64,")) == (tmp_path / "curve.svg").read_bytes()
    assert "without correction for the number of points" in page.one("main").text


def test_the_text_says_what_the_marks_and_bands_are() -> None:
    text = curve_markdown(points())
    assert "| reasoning | 0.860 | 0.860 | 0.620 ✗ | 0.620 ✗ |" in text
    assert "without correction for the number of points" in text
