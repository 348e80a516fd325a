"""Scores of the edits by likelihood in reports: signs and intervals, in columns that go first, and read back."""

import json
from dataclasses import replace

import pytest

from audit.measures.rates import LIKELIHOOD, NATS_PER_TOKEN, Difference, Rate
from audit.reports.json_report import report_from_json, verdict_json
from audit.reports.markdown import NATS_LEGEND, markdown
from audit.reports.rows import EditScore, RunReport
from audit.reports.terminal import summary
from audit.reports.workflows.curve import curve_csv
from tests.reports.sample import REPORT

NATS = next(score for score in REPORT.edit_scores if (score.measure, score.protocol) == ("efficacy", NATS_PER_TOKEN))
OLD = replace(REPORT, edit_scores=tuple(s for s in REPORT.edit_scores if not s.protocol.startswith(LIKELIHOOD)))


@pytest.mark.parametrize(
    ("measure", "protocol", "value", "shown"),
    [
        ("efficacy", NATS_PER_TOKEN, 4.25, "+4.250"),
        ("locality", NATS_PER_TOKEN, -0.0312, "-0.031"),
        ("locality", NATS_PER_TOKEN, -0.0001, "+0.000"),
        ("efficacy, magnitude", LIKELIHOOD, 0.41, "+0.410"),
        ("efficacy", LIKELIHOOD, 0.9, "0.900"),
        ("efficacy", "autoregressive", 1.0, "1.000"),
        ("efficacy", NATS_PER_TOKEN, None, "-"),
    ],
)
def test_differences_have_a_sign_and_rates_have_none(
    measure: str, protocol: str, value: float | None, shown: str
) -> None:
    assert EditScore(measure, protocol, value, 10).shown == shown


def test_limits_are_rounded_outwards() -> None:
    assert EditScore("locality", NATS_PER_TOKEN, 0.0, 9, -0.0651, 0.0027).interval == "[-0.066, 0.003]"
    assert EditScore("locality", NATS_PER_TOKEN, 0.0, 1).interval == ""


def test_values_outside_a_rate_are_read_back() -> None:
    found = report_from_json(verdict_json(REPORT), origin="x")
    assert found.edit_scores == REPORT.edit_scores
    assert found.edit_score("efficacy", NATS_PER_TOKEN) == NATS
    assert found.edit_score("efficacy") == REPORT.edit_scores[0]  # what curves, grids and advice follow


def test_an_older_report_without_them_is_read_and_shown() -> None:
    document = json.loads(verdict_json(OLD))
    for row in document["edit_scores"]:
        del row["lower"], row["upper"]
    found = report_from_json(json.dumps(document), origin="x")
    assert found.edit_scores == OLD.edit_scores
    assert NATS_LEGEND not in markdown(found)
    assert "nats" not in summary(found, width=140)


def test_the_markdown_table_has_them_with_their_intervals() -> None:
    text = markdown(REPORT)
    assert "| efficacy | likelihood, nats per token | +4.250 | [3.500, 5.000] | 10 |" in text
    assert "| efficacy, magnitude | likelihood | +0.410 | [0.200, 0.620] | 10 |" in text
    assert NATS_LEGEND in text


def headings(report: RunReport, width: int) -> str:
    """The headings of the table of the edit."""
    lines = summary(report, width=width).splitlines()
    return next(line for line in lines if line.startswith("the edit itself"))


def test_both_columns_are_shown_where_they_fit() -> None:
    assert headings(REPORT, 100).count(LIKELIHOOD) == 2
    assert NATS_PER_TOKEN in headings(REPORT, 80) and headings(REPORT, 80).count(LIKELIHOOD) == 1


@pytest.mark.parametrize("width", range(36, 140, 4))
def test_they_push_no_other_column_out(width: int) -> None:
    shown = headings(REPORT, width).replace(NATS_PER_TOKEN, "").replace(LIKELIHOOD, "")
    assert shown.split() == headings(OLD, width).split()


def test_intervals_and_magnitudes_are_shown_at_v() -> None:
    plain, more = (summary(REPORT, width=140, verbosity=verbosity) for verbosity in (0, 1))
    assert "+4.250" in plain and "[3.500, 5.000]" not in plain and "magnitude" not in plain
    assert "+4.250 [3.500, 5.000]" in more and "efficacy, magnitude" in more


def test_a_curve_has_them_as_further_lines() -> None:
    before, after = curve_csv([OLD]).splitlines(), curve_csv([REPORT]).splitlines()
    assert [line for line in after if "likelihood" not in line] == before
    assert len(after) == len(before) + 4
    assert any("4.2500" in line and "5.0000" in line for line in after)


def test_scores_print_their_interval() -> None:
    assert str(Difference(-0.5, 4, -0.75, -0.25, 8)) == "-0.500 [-0.750, -0.250], n = 4"
    assert str(Rate(0.5, 4, 0.15, 0.85, 8)) == "0.500 [0.150, 0.850], n = 4"
