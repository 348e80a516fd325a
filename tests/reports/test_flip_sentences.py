"""Flips in the terminal and in report.md: all of them, and how many of them on items that mention an edit."""

from dataclasses import replace

from audit.measures.flips import FlipCounts, FlipReport
from audit.reports.json_report import items_from_jsonl, items_jsonl, report_from_json, verdict_json
from audit.reports.markdown import markdown
from audit.reports.run_sentences import flip_lines, flip_table
from audit.reports.terminal import summary
from tests.reports.sample import FAILED, PASSED, REPORT

LOST = FlipReport(FlipCounts(12, 9, 1, 0, 0), FlipCounts(188, 41, 1, 7, 3), 0.2128)
KEPT = FlipReport(FlipCounts(0, 0, 0, 0, 0), FlipCounts(200, 0, 0, 0, 0), 0.0)
ROWS = (replace(FAILED, flips=LOST), replace(PASSED, flips=KEPT))


def test_one_line_tells_of_all_and_of_those_that_mention_an_edit() -> None:
    assert flip_lines(ROWS, 0) == [
        "flips: 50 right to wrong, 2 wrong to right, 7 parsed to unparseable, 3 repeated text; on the 12 "
        "items that mention an edit: 9 right to wrong, 1 wrong to right"
    ]
    assert flip_lines(ROWS, 1)[0].startswith("flips, reasoning: 50 right to wrong")


def test_where_no_item_mentions_an_edit_that_is_said() -> None:
    lost = replace(LOST, mentioning=FlipCounts(0, 0, 0, 0, 0))
    (line,) = flip_lines((replace(FAILED, flips=lost),), 0)
    assert line == (
        "flips: 41 right to wrong, 1 wrong to right, 7 parsed to unparseable, 3 repeated text; "
        "no item mentions a known edit"
    )


def test_where_nothing_flipped_nothing_is_said() -> None:
    assert flip_lines((ROWS[1], PASSED), 0) == []
    assert "flips:" not in summary(REPORT, width=100, color=False)  # a report of an older version


def test_the_table_holds_both_counts_and_both_drops() -> None:
    table = flip_table((*ROWS, PASSED))
    assert table is not None
    assert table[1][0] == ["reasoning", "12 + 188", "9 + 41", "1 + 1", "0 + 7", "0 + 3", "0.240", "0.213"]
    everything = FlipReport(FlipCounts(200, 0, 0, 0, 0), FlipCounts(0, 0, 0, 0, 0), None)
    whole = flip_table((replace(PASSED, flips=everything),))
    assert whole is not None and whole[1][0][-1] == "-"
    assert flip_table((PASSED,)) is None
    assert "## Flips" in markdown(replace(REPORT, abilities=ROWS))
    assert "## Flips" not in markdown(REPORT)


def test_they_are_written_and_read_back() -> None:
    items = tuple(replace(item, mentions=("Mara Lind",), flips=("right to wrong",)) for item in REPORT.items)
    report = replace(REPORT, abilities=ROWS, items=())
    assert report_from_json(verdict_json(report), origin="x") == report
    assert items_from_jsonl(items_jsonl(items)) == items
