"""The schemas in docs/schemas describe what is written: files of real runs are valid, and other files are not."""

import json
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from audit import Audit, read_report, write_report
from audit.cli import app
from audit.engine.reuse_counts import ReuseCounts
from audit.measures import flips
from audit.measures.edited_facts import EditedFact
from audit.measures.flips import FlipCounts, FlipReport
from audit.reports.json_report import SCHEMA_VERSION, as_json, items_jsonl, verdict_document
from audit.reports.rows import (
    AbilityRow,
    AnswerRecord,
    EditScore,
    Example,
    IntegrityRow,
    ItemRecord,
    RunHeader,
    RunReport,
    SkippedEdit,
)
from audit.verdicts import Outcome, StoppingRule, Verdict
from tests.reports.sample import REPORT
from tests.small_audit import SmallWorld, build, teach

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"
VERDICT, ITEM = (json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8")) for name in ("verdict", "items"))
IN_VERDICT = {
    "header": RunHeader,
    "ability": AbilityRow,
    "verdict": Verdict,
    "edited_fact": EditedFact,
    "example": Example,
    "stopping_rule": StoppingRule,
    "flips": FlipReport,
    "flip_counts": FlipCounts,
    "edit_score": EditScore,
    "integrity": IntegrityRow,
    "skipped": SkippedEdit,
    "reuse": ReuseCounts,
}
BY_COMPARE = {"fields", "flips", "floor"}  # fields with a default that `audit compare` writes too


def faults(schema: dict[str, Any], document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)]


def names(record: type, *, with_default: bool = True) -> set[str]:
    bare = (one.default is MISSING and one.default_factory is MISSING for one in fields(record))
    return {one.name for one, needed in zip(fields(record), bare, strict=True) if needed or with_default}


@pytest.mark.parametrize("schema", [VERDICT, ITEM], ids=["verdict", "items"])
def test_the_schemas_are_schemas(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


@pytest.mark.parametrize("part", IN_VERDICT)
def test_every_field_of_a_row_is_in_the_schema(part: str) -> None:
    described = VERDICT["$defs"][part]
    assert set(described["properties"]) == set(described["required"]) == names(IN_VERDICT[part])
    assert described["additionalProperties"] is False


def test_every_part_of_a_report_is_in_the_schema() -> None:
    assert set(VERDICT["$defs"]) == set(IN_VERDICT)
    assert set(VERDICT["properties"]) == set(VERDICT["required"]) == set(verdict_document(REPORT))
    assert VERDICT["properties"]["schema_version"] == {"const": SCHEMA_VERSION}
    for outcome in (VERDICT["properties"]["outcome"], VERDICT["$defs"]["verdict"]["properties"]["outcome"]):
        assert outcome["enum"] == [one.value for one in Outcome]


def test_every_field_of_an_item_is_in_the_schema() -> None:
    answer = ITEM["$defs"]["answer"]
    assert set(ITEM["properties"]) == names(ItemRecord)
    assert set(ITEM["required"]) == names(ItemRecord, with_default=False) | BY_COMPARE
    assert set(answer["properties"]) == names(AnswerRecord)
    assert set(answer["required"]) == names(AnswerRecord, with_default=False)
    kinds = {flips.RIGHT_TO_WRONG, flips.WRONG_TO_RIGHT, flips.UNPARSEABLE, flips.REPEATED}
    assert set(ITEM["properties"]["flips"]["items"]["enum"]) == kinds


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    small = build(tmp_path_factory.mktemp("world"))
    teach(small)
    return small


@pytest.fixture(scope="module")
def audited(world: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a run of one ability on the small random model."""
    root = tmp_path_factory.mktemp("runs")

    def run(ability: str, **options: Any) -> Path:
        given = world.options(store=root / "store", device="cpu", limit=60, triage=False)
        return write_report(Audit(**given | options).run([ability]), root / "reports")

    return run


RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "pass": ("PASS", "open_qa", {"editor": "identity"}),
    "fail": ("FAIL", "open_qa", {"editor": "vandal"}),
    "inconclusive": ("INCONCLUSIVE", "reasoning", {"editor": "identity"}),
    "unchanged": ("FAIL", "open_qa", {}),
    "collapsed": ("FAIL", "open_qa", {"editor": "tests.test_audit:Poison", "triage": True}),
    "stopped early": ("PASS", "open_qa", {"editor": "identity", "early_stop": True, "margins": {"open_qa": 0.3}}),
    "edited, likelihood": ("INCONCLUSIVE", "open_qa", {"editor": "ft", "reading": {"": "likelihood"}}),
    "ranked, no texts": ("INCONCLUSIVE", "sentiment", {"editor": "identity", "item_texts": False}),
    "not asked": ("INCONCLUSIVE", "ner", {"editor": "identity"}),
}


def valid_lines(folder: Path) -> Iterator[dict[str, Any]]:
    """The items of a run, each of which the schema must accept."""
    for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        assert faults(ITEM, item) == []
        yield item


@pytest.mark.parametrize("name", RUNS)
def test_what_a_run_writes_is_valid(
    name: str, audited: Callable[..., Path], world: SmallWorld, request: pytest.FixtureRequest
) -> None:
    outcome, ability, options = RUNS[name]
    if name == "unchanged":
        options = {"edited": str(world.model)}
    if name == "not asked":
        broken, kept = world.rows / "conll2003.jsonl", (world.rows / "conll2003.jsonl").read_bytes()
        broken.write_text('{"tokens": 3}\n', encoding="utf-8")
        request.addfinalizer(lambda: broken.write_bytes(kept))
    folder = audited(ability, **options)
    document = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert faults(VERDICT, document) == []
    assert document["outcome"] == outcome
    assert len(list(valid_lines(folder))) == sum(row["verdict"]["n"] for row in document["abilities"])
    assert bool(document["unasked"]) == (name == "not asked")
    assert bool(document["collapse"]) == (name == "collapsed")
    assert any(row["stopping_rule"] for row in document["abilities"]) == (name == "stopped early")


def test_what_compare_and_rescore_write_is_valid(
    audited: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in ("base", "first", "second"):
        scores = (generator.random(300) < 0.8).astype(int)
        lines = ["id,score,cluster,floor", *(f"{k},{score},source {k % 60},0.25" for k, score in enumerate(scores))]
        Path(f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run = audited("open_qa", editor="identity")
    for command in (["compare", "base.csv", "first.csv", "second.csv", "--trend"], ["rescore", str(run)]):
        result = CliRunner().invoke(app, [*command, "--reports", command[0]])
        assert result.exit_code in (0, 1, 3), result.output
        (folder,) = Path(command[0]).iterdir()
        document = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
        assert faults(VERDICT, document) == []
        assert len(list(valid_lines(folder))) >= 60
        assert bool(document["steps"]) == (command[0] == "compare")


def test_a_report_with_everything_is_valid() -> None:
    assert faults(VERDICT, verdict_document(REPORT)) == []
    assert [faults(ITEM, json.loads(line)) for line in items_jsonl(REPORT.items).splitlines()] == [[]]


def without(document: dict[str, Any], *path: str | int) -> dict[str, Any]:
    """A copy of the document without the field at the path."""
    found = json.loads(json.dumps(document))
    place = found
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return found


def test_the_sample_is_a_report_of_this_version() -> None:
    sample = Path(__file__).resolve().parents[2] / "reports" / "sample"
    assert faults(VERDICT, json.loads((sample / "verdict.json").read_text(encoding="utf-8"))) == []
    assert read_report(sample).outcome == "FAIL"


def test_a_missing_field_is_a_fault() -> None:
    document = verdict_document(REPORT)
    for path in (("outcome",), ("header", "model"), ("abilities", 0, "verdict", "upper"), ("reuse", "edits")):
        assert len(faults(VERDICT, without(document, *path))) == 1, path
    item = as_json(REPORT.items[0])
    for path in (("key",), ("base", "score"), ("edited", 1, "text")):
        assert len(faults(ITEM, without(item, *path))) == 1, path


@pytest.mark.parametrize(
    ("field", "value"),
    [("outcome", "GOOD"), ("schema_version", 1), ("mood", "good"), ("seconds", {"editing": -1}), ("abilities", [{}])],
)
def test_a_wrong_or_unknown_field_is_a_fault(field: str, value: Any) -> None:
    assert faults(VERDICT, {**verdict_document(REPORT), field: value})


def test_a_wrong_item_is_a_fault() -> None:
    item = as_json(REPORT.items[0])
    for wrong in ({"edited": []}, {"flips": ["better"]}, {"base": {**item["base"], "score": 1.5}}, {"mood": "good"}):
        assert len(faults(ITEM, item | wrong)) == 1, wrong


def test_the_report_has_no_part_that_the_document_leaves_out() -> None:
    assert {part.name for part in fields(RunReport)} - set(VERDICT["properties"]) == {"items", "folder"}
