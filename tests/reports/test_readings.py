"""How an ability was read is shown: the columns reading and kept, and what was tried before."""

from dataclasses import replace

import pytest

from audit.reports.json_report import items_from_jsonl, items_jsonl, report_from_json, verdict_json
from audit.reports.markdown import markdown
from audit.reports.rows import AnswerRecord
from audit.reports.terminal import summary
from audit.reports.verdict_sentences import kept_share
from tests.reports.sample import FAILED, PASSED, REPORT, row_with

TRIALS = ("answers, plain: base `0.1`, not clear", "likelihood, 4 examples: base 0.8")
READ = row_with(
    PASSED,
    reading="likelihood",
    prompting="4 examples",
    trials=TRIALS,
    metric="AUC of the log-odds",
    asked_margin="80%",
    kept=0.972,
    kept_lower=0.91,
    kept_upper=1.03,
)
BY_LIKELIHOOD = replace(REPORT, abilities=(FAILED, READ))


@pytest.mark.parametrize(
    ("reading", "prompting", "how"),
    [
        ("likelihood", "plain", "likelihood"),
        ("choices", "4 examples", "choices, 4 examples"),
        ("answers", "chat", "answers, chat"),
        ("answers", "", "answers"),
        ("", "", ""),
    ],
)
def test_a_row_says_how_it_was_asked(reading: str, prompting: str, how: str) -> None:
    assert replace(PASSED, reading=reading, prompting=prompting).how == how


def test_the_terminal_has_columns_for_reading_and_kept() -> None:
    lines = summary(BY_LIKELIHOOD, width=140, color=False).splitlines()
    assert lines[0].split()[:2] == ["ability", "reading"] and "kept" in lines[0].split()
    (line,) = [line for line in lines if line.startswith("sentiment ")]
    assert "likelihood, 4 examples" in line and kept_share(READ.verdict) in line and "(80%)" in line
    narrow = summary(BY_LIKELIHOOD, width=60, color=False).splitlines()[0].split()
    assert "reading" not in narrow and "verdict" in narrow


def test_older_rows_have_neither_column() -> None:
    heading = summary(REPORT, width=140, color=False).splitlines()[0].split()
    assert "reading" not in heading and "kept" not in heading


def test_markdown_has_the_columns_and_the_trials() -> None:
    text = markdown(BY_LIKELIHOOD)
    heading, row = (next(line for line in text.splitlines() if line.startswith(f"| {name} |")) for name in NAMES)
    cells = dict(zip(*([cell.strip() for cell in line.split("|")] for line in (heading, row)), strict=True))
    assert cells["reading"] == "likelihood, 4 examples"
    assert cells["kept"] == kept_share(READ.verdict) != ""
    assert cells["metric"] == "AUC of the log-odds"
    (said,) = [line for line in text.splitlines() if line.startswith("- **sentiment** by ")]
    assert said == (
        "- **sentiment** by likelihood, 4 examples; tried on items set aside: "
        "`answers, plain: base '0.1', not clear`; `likelihood, 4 examples: base 0.8`"
    )
    assert "- **reasoning** by " not in text


def test_without_trials_there_is_no_section_about_them() -> None:
    assert "How the abilities were asked" not in markdown(REPORT)


def test_what_was_read_is_written_and_read_back() -> None:
    assert report_from_json(verdict_json(BY_LIKELIHOOD), origin="x") == replace(BY_LIKELIHOOD, items=())
    tokens, values = ((" a", "é"), (" b",)), ((-0.5, -0.25), (-1e-9,))
    scored = AnswerRecord("-0.50 nats per token", -0.5, True, 0.9, tokens=tokens, log_probabilities=values)
    items = tuple(replace(item, base=scored, edited=(scored,), floor=scored) for item in REPORT.items)
    assert items_from_jsonl(items_jsonl(items)) == items


NAMES = ("ability", "sentiment")
