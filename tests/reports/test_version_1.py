"""Reports that the first version of the schema wrote are read, shown and scored again with the same numbers."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from audit.reports.folder import read_report
from audit.reports.json_report import report_from_json, verdict_json
from audit.reports.terminal import summary
from audit.reports.verdict_sentences import coverage
from audit.verdicts import Verdict
from audit.workflows.rescore import rescored

DATA = Path(__file__).parent / "data" / "version_1"
RUNS = ("early_stop", "sequential_edits")


def plain(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / name / "verdict.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", RUNS)
def test_every_number_is_kept(name: str) -> None:
    report = read_report(DATA / name)
    for row, old in zip(report.abilities, plain(name)["abilities"], strict=True):
        shared = {part.name for part in fields(Verdict)} & old.keys()
        assert {part: getattr(row.verdict, part) for part in shared} == {part: old[part] for part in shared}
        for part in ("ability", "metric", "protocol", "asked_margin", "harm_p", "changed", "items_fingerprint"):
            assert getattr(row, part) == old[part]
    assert (report.outcome, report.header.editor) == (plain(name)["outcome"], plain(name)["header"]["editor"])


@pytest.mark.parametrize("name", RUNS)
def test_the_sentence_is_that_of_the_old_version(name: str) -> None:
    for row, old in zip(read_report(DATA / name).abilities, plain(name)["abilities"], strict=True):
        assert row.sentence == old["sentence"].replace("whenever one looks", "valid at every look")


def test_limits_of_a_run_that_may_stop_early_keep_their_confidence() -> None:
    early = {row.ability: row for row in read_report(DATA / "early_stop").abilities}
    assert early["open_qa"].stopping_rule is not None and early["open_qa"].planned == 200
    assert {name: coverage(row.verdict) for name, row in early.items()} == {"open_qa": "95 %", "ner": "97 %"}
    assert {coverage(row.verdict) for row in read_report(DATA / "sequential_edits").abilities} == {"90 %"}


def test_it_is_shown() -> None:
    shown = summary(read_report(DATA / "sequential_edits"), width=120)
    assert "90 % interval" in shown.splitlines()[0]
    early = summary(read_report(DATA / "early_stop"), width=120)
    assert "95 % [" in early and "97 % [" in early and "137 of 200" in early


@pytest.mark.parametrize("name", RUNS)
def test_it_is_written_in_the_new_version(name: str) -> None:
    report = replace(read_report(DATA / name), folder=None)
    text = verdict_json(report)
    assert json.loads(text)["schema_version"] == 2
    assert report_from_json(text, origin="x") == report


def test_it_is_scored_again() -> None:
    run = read_report(DATA / "early_stop", with_items=True)
    run = replace(run, abilities=tuple(row for row in run.abilities if row.ability == "open_qa"))
    (old,), (new,) = run.abilities, rescored(run, {}).abilities
    assert replace(new, examples=old.examples) == old  # the committed file has fewer examples


def test_a_share_to_keep_takes_the_limit_of_its_harm_from_the_sentence() -> None:
    document = plain("sequential_edits")
    row = document["abilities"][0]
    row["outcome"], row["asked_margin"], row["lower"] = "FAIL", "90%", 0.001
    row["sentence"] = (
        "The drop of 0.120 exceeds the margin of 0.080 (to keep 90% of what lies above the floor), and with 95 % "
        "confidence it is real harm, at least 0.013."
    )
    verdict = report_from_json(json.dumps(document), origin="x").abilities[0].verdict
    assert (verdict.harm_lower, verdict.confidence) == (0.013, 0.95)
