"""What a report says as a whole, before anyone renders it."""

from dataclasses import replace

import pytest

from audit.reports.rows import IntegrityRow
from audit.reports.run_sentences import header_lines, verdict_line
from audit.reports.terminal import summary
from tests.reports.sample import ALL_PASS, FAILED, PASSED, REPORT, UNDECIDED


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        ((PASSED, PASSED), "PASS"),
        ((PASSED, UNDECIDED), "INCONCLUSIVE"),
        ((UNDECIDED, FAILED, PASSED), "FAIL"),
        ((), "INCONCLUSIVE"),
    ],
)
def test_the_worst_verdict_is_the_runs(rows: tuple, outcome: str) -> None:  # type: ignore[type-arg]
    assert replace(ALL_PASS, abilities=rows).outcome == outcome


def test_damaged_weights_fail_a_run_whatever_the_abilities_say() -> None:
    report = replace(ALL_PASS, integrity=(IntegrityRow("finite logits", False, False, "Some logits are NaN."),))
    assert report.outcome == "FAIL"
    assert verdict_line(report).endswith("1 PASS, unsound finite logits")


def test_a_test_that_failed_for_another_reason_fails_the_run_by_name() -> None:
    report = replace(ALL_PASS, failed_tests=("suites/test_edit.py::test_the_new_facts_are_said",))
    assert report.outcome == "FAIL"
    assert verdict_line(report).endswith(": 1 PASS, failed test_the_new_facts_are_said")


def test_a_check_without_a_limit_decides_nothing() -> None:
    report = replace(ALL_PASS, integrity=(IntegrityRow("perplexity ratio", None, None, "No text was given."),))
    assert report.outcome == "PASS"


def test_the_header_names_a_pinned_revision() -> None:
    header = replace(REPORT.header, model="gpt2-xl", revision="15ea56d")
    assert "edits gpt2-xl @ 15ea56d: " in header_lines(header)[0]


def test_several_edited_answers_average() -> None:
    assert REPORT.items[0].edited_score == 0.5


def test_a_summary_is_plain_text_by_default() -> None:
    assert "\x1b" not in summary(REPORT)
