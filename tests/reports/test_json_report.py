"""verdict.json and items.jsonl: whole, readable by any JSON reader, and read back as what they were."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from audit.errors import AuditError
from audit.reports.json_report import (
    SCHEMA_VERSION,
    items_from_jsonl,
    items_jsonl,
    report_from_json,
    verdict_document,
    verdict_json,
)
from audit.reports.rows import IntegrityRow
from tests.reports.sample import REPORT


def test_what_is_written_is_read_back() -> None:
    assert report_from_json(verdict_json(REPORT), origin="x") == replace(REPORT, items=())
    assert items_from_jsonl(items_jsonl(REPORT.items)) == REPORT.items


def test_what_was_not_asked_is_read_back() -> None:
    report = replace(REPORT, unasked={"ner": "no such file"}, items=())
    assert report_from_json(verdict_json(report), origin="x") == report


def test_an_item_may_hold_any_line_break() -> None:
    items = tuple(replace(item, prompt="one\u2028two\x85three\nfour") for item in REPORT.items)
    assert items_from_jsonl(items_jsonl(items)) == items


def test_the_document_holds_what_judging_and_repeating_take() -> None:
    document = verdict_document(REPORT)
    assert document["schema_version"] == SCHEMA_VERSION
    assert document["outcome"] == "FAIL"
    for part in ("header", "abilities", "edit_scores", "integrity", "skipped", "settings", "fingerprints", "versions"):
        assert document[part]
    row = document["abilities"][0]
    assert {"lower", "upper", "margin", "n", "floor", "method", "confidence"} <= set(row["verdict"])
    assert {"items_fingerprint", "asked_margin"} <= set(row)
    assert "items" not in document


def test_numbers_that_are_not_finite_become_null() -> None:
    broken = IntegrityRow("perplexity ratio", math.inf, False, "Perplexity is infinite.")
    text = verdict_json(replace(REPORT, integrity=(broken,), seconds={"editing": math.nan}))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    document = json.loads(text, parse_constant=refuse)
    assert document["integrity"][0]["value"] is None
    assert document["seconds"]["editing"] is None


def test_items_stand_one_a_line_in_readable_letters() -> None:
    text = items_jsonl(REPORT.items * 3)
    assert len(text.splitlines()) == 3
    assert "é?" in text
    assert json.loads(text.splitlines()[0])["base"]["score"] == 1.0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "x is not JSON (line 1)"),
        ("[]", "x has schema version None"),
        ('{"schema_version": 99}', "x has schema version 99, and this version of the audit reads 1 and 2"),
        ('{"schema_version": 1}', "x lacks or misnames a field ('abilities')"),
        ('{"schema_version": 2}', "x lacks or misnames a field ('header')"),
    ],
)
def test_other_files_are_refused_with_one_sentence(text: str, complaint: str) -> None:
    with pytest.raises(AuditError) as caught:
        report_from_json(text, origin="x")
    assert complaint in str(caught.value)


def test_an_unknown_field_is_refused() -> None:
    document: dict[str, Any] = json.loads(verdict_json(REPORT))
    document["header"]["mood"] = "good"
    with pytest.raises(AuditError, match="lacks or misnames a field"):
        report_from_json(json.dumps(document), origin="x")
