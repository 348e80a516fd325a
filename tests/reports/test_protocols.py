"""No number without its protocol: every renderer says by which one it was asked."""

import json
import math
from dataclasses import replace

import pytest

from audit.reports.json_report import items_from_jsonl, items_jsonl, report_from_json, verdict_json
from audit.reports.markdown import markdown
from audit.reports.rows import AbilityRow
from audit.reports.run_sentences import explanation
from audit.reports.terminal import summary
from tests.reports.sample import FAILED, PASSED, REPORT, answer

PAPERS = replace(FAILED, protocol="gu2024")
ASKED = replace(REPORT, abilities=(PAPERS, PASSED))


@pytest.mark.parametrize("width", [45, 60, 140])
@pytest.mark.parametrize("verbosity", [0, 1])
def test_the_terminal_marks_the_papers_numbers_however_narrow_it_is(width: int, verbosity: int) -> None:
    lines = summary(ASKED, width=width, color=False, verbosity=verbosity).splitlines()
    assert [line for line in lines if line.startswith("reasoning (gu2024)")]
    assert [line for line in lines if line.startswith("sentiment ")]


def test_the_report_has_a_column_for_it() -> None:
    lines = markdown(ASKED).splitlines()
    assert any(line.startswith("| ability | reading | metric | protocol | base |") for line in lines)
    assert any(line.startswith("| reasoning |  | solve rate | gu2024 | 0.860 |") for line in lines)
    assert any(line.startswith("| sentiment |  | accuracy | standard | 0.960 |") for line in lines)
    assert any(line.startswith("- **reasoning (gu2024)**: ") for line in lines)


def test_what_the_protocol_could_not_ask_is_told_with_its_reason() -> None:
    report = replace(ASKED, unasked={"open_qa": "row open_qa/3 has no column 'document'"})
    assert "not asked: open_qa: row open_qa/3 has no column 'document'" in summary(report, width=100, color=False)
    assert "\n## Not asked\n\n- **open_qa**: `row open_qa/3 has no column 'document'`\n" in markdown(report)
    assert "Not asked" not in markdown(ASKED)


def test_a_failing_assertion_says_it() -> None:
    assert explanation(PAPERS, "PASS")[0] == "reasoning (gu2024): FAIL, wanted PASS"
    assert explanation(FAILED, "PASS")[0] == "reasoning: FAIL, wanted PASS"


def test_verdict_json_holds_it_and_reports_without_it_are_standard() -> None:
    document = json.loads(verdict_json(ASKED))
    assert [row["protocol"] for row in document["abilities"]] == ["gu2024", "standard"]
    assert report_from_json(json.dumps(document), origin="x").abilities[0] == PAPERS
    del document["abilities"][1]["protocol"]
    assert report_from_json(json.dumps(document), origin="x").abilities[1] == PASSED
    assert AbilityRow.protocol == "standard"


def test_what_scoring_again_takes_is_read_back() -> None:
    ranked = replace(answer("1", 1.0), log_likelihoods=(-2.0, -0.5, math.nan))
    (item,) = REPORT.items
    (read,) = items_from_jsonl(items_jsonl([replace(item, base=ranked, fields={"options": ["a", "b"], "n": 1})]))
    assert read.fields == {"options": ["a", "b"], "n": 1}
    assert read.base.log_likelihoods is not None
    assert read.base.log_likelihoods[:2] == (-2.0, -0.5)
    assert math.isnan(read.base.log_likelihoods[2])
    assert read.edited == item.edited


def test_items_of_older_reports_are_read_as_they_are() -> None:
    row = json.loads(items_jsonl(REPORT.items))
    del row["fields"], row["base"]["log_likelihoods"], row["edited"][0]["log_likelihoods"]
    assert items_from_jsonl(json.dumps(row) + "\n") == REPORT.items
