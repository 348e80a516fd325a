"""`audit rescore`: the same answers have the same verdicts; other margins and parsers change them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.abilities.contract import Answer
from audit.abilities.sentiment import Sentiment
from audit.answering import paired_answers as scoring
from audit.cli import app
from audit.reports.folder import read_report, write_report
from audit.reports.rows import ItemRecord, RunReport
from audit.reports.run_sentences import header_lines
from audit.verdicts import PASS
from tests.reports.sample import row_with
from tests.small_audit import build, write_lines

RUNNER = CliRunner()


def rescored(folder: Path, *options: str, code: int | None = None) -> RunReport:
    """The report that `audit rescore` leaves."""
    before = set(folder.parent.iterdir())
    result = RUNNER.invoke(app, ["rescore", str(folder), *options])
    assert code is None or result.exit_code == code, result.output
    (new,) = set(folder.parent.iterdir()) - before
    return read_report(new, with_items=True)


@pytest.mark.parametrize("protocol", ["standard", "gu2024"])
def test_an_unchanged_run_has_exactly_the_same_verdicts_and_numbers(run: Callable[..., Path], protocol: str) -> None:
    folder = run(protocol)
    old, new = read_report(folder, with_items=True), rescored(folder, code=1)
    assert len(new.abilities) == 8
    assert {row.protocol for row in new.abilities} == {protocol}
    assert new.abilities == old.abilities
    assert [repr(item) for item in new.items] == [repr(item) for item in old.items]  # NaN is not equal to itself
    kept = ("edit_scores", "integrity", "skipped", "fingerprints", "reuse", "failed_tests", "outcome")
    assert [getattr(new, name) for name in kept] == [getattr(old, name) for name in kept]


def test_the_new_report_names_the_run(run: Callable[..., Path]) -> None:
    folder = run(names=("nli",))
    new = rescored(folder)
    assert new.header.rescored == str(folder)
    said = f"the answers of {folder}, scored again; no model is asked"
    assert header_lines(new.header)[-1] == f"audit: {said}"
    assert new.folder is not None
    assert said in (Path(new.folder) / "report.md").read_text(encoding="utf-8")
    assert any(name.endswith("(scoring)") for name in new.versions)
    assert new.header.started > read_report(folder).header.started


def test_other_margins_change_verdicts_but_not_numbers(run: Callable[..., Path]) -> None:
    folder = run(right=0.3, names=("nli", "sentiment"))
    old, new = read_report(folder), rescored(folder, "--margin", "nli=0.9", code=1)
    assert [row.outcome for row in old.abilities] == ["FAIL", "FAIL"]
    assert [row.outcome for row in new.abilities] == ["PASS", "FAIL"]
    assert new.abilities[1] == old.abilities[1]
    changed = {"margin": 0.9, "outcome": PASS, "more_items": None, "asked_margin": "0.9"}
    assert row_with(old.abilities[0], **changed) == new.abilities[0]
    assert new.settings["margins"] == {"nli": "0.9"}


def test_the_noise_floor_of_the_run_applies_to_other_margins(run: Callable[..., Path]) -> None:
    folder = run(names=("nli",))
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    verdict["abilities"][0] |= {"noise_floor": 0.02, "noise_items": 150}
    (folder / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")
    (row,) = rescored(folder, "--margin", "nli=0.03").abilities
    assert (row.noise_floor, row.noise_items) == (0.02, 150)
    refused = RUNNER.invoke(app, ["rescore", str(folder), "--margin", "nli=0.01"])
    assert refused.exit_code == 2
    assert "--margin nli=0.01: 0.0100 points are under the noise floor of 0.0200" in refused.output


def test_a_better_parser_changes_the_scores(run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(names=("sentiment", "nli"))
    monkeypatch.setattr(Sentiment, "parse", lambda self, text: Answer(text, "positive", True))
    old, new = read_report(folder), rescored(folder)
    assert new.abilities[0].verdict.base == new.abilities[0].verdict.edited == 0.5
    assert new.abilities[0].edited_unparseable == 0.0 < old.abilities[0].edited_unparseable
    assert new.abilities[1] == old.abilities[1]


def test_another_rule_for_ties_changes_the_scores(run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(names=("dialogue",))
    monkeypatch.setattr(scoring, "best_choice", lambda item, ranked: str(max(range(4), key=lambda k: ranked[k])))
    old, new = read_report(folder), rescored(folder)
    assert new.abilities[0].verdict.edited > old.abilities[0].verdict.edited
    assert new.abilities[0].base_unparseable == 0.0 < old.abilities[0].base_unparseable


@pytest.mark.parametrize(
    ("right", "options", "code"),
    [
        (0.2, [], 1),
        (0.95, ["--margin", "nli=0.5"], 0),
        (0.95, ["--margin", "nli=0.01"], 3),
        (0.95, ["--margin", "nli=0.01", "--inconclusive", "skip"], 0),
    ],
)
def test_the_exit_code_is_the_outcome(run: Callable[..., Path], right: float, options: list[str], code: int) -> None:
    result = RUNNER.invoke(app, ["rescore", str(run(right=right, names=("nli",))), *options])
    assert result.exit_code == code, result.output
    outcome = {0: "PASS", 1: "FAIL", 3: "INCONCLUSIVE"}[3 if "skip" in options else code]
    assert f"\n{outcome}: memit on pocket-gpt2" in result.stdout


def forget(folder: Path, *parts: str) -> None:
    """Leave parts out of every item, as older versions did."""
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in lines:
        for part in parts:
            for place in (row, row["base"], *row["edited"]):
                place.pop(part, None)
    write_lines(folder / "items.jsonl", lines)


def cut(folder: Path, keep: Callable[[str], str]) -> None:
    file = folder / "items.jsonl"
    file.write_text(keep(file.read_text(encoding="utf-8")), encoding="utf-8")


def spoil(folder: Path, old: str, new: str) -> None:
    file = folder / "verdict.json"
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("harm", "options", "sentence"),
    [
        (lambda f: (f / "verdict.json").unlink(), [], "verdict.json cannot be read: give the folder of a run"),
        (lambda f: (f / "items.jsonl").unlink(), [], "items.jsonl cannot be read: give the folder of a run"),
        (lambda f: cut(f, lambda text: text[: len(text) // 2]), [], "is not an item of a report ("),
        (lambda f: cut(f, lambda text: text[: text.rindex("\n", 0, -1) + 1]), [], "holds 47 of the 48 items of nli"),
        (lambda f: cut(f, lambda text: text + "[]\n"), [], "line 97 is not an item of a report"),
        (lambda f: spoil(f, '"schema_version": 2', '"schema_version": 9'), [], "has schema version 9"),
        (lambda f: spoil(f, '"ability": "nli"', '"ability": "maths"'), [], "holds 0 of the 48 items of maths"),
        (lambda f: forget(f, "fields"), [], "without what scoring again takes (an older version"),
        (lambda f: forget(f, "log_likelihoods"), [], "without what scoring again takes (an older version"),
        (lambda f: None, ["--margin", "ner=0.1"], "did not judge ner; leave its margin out"),
        (lambda f: None, ["--margin", "nli"], "--margin 'nli': write ABILITY=MARGIN"),
        (lambda f: None, ["--inconclusive", "maybe"], "--inconclusive 'maybe': give one of fail, skip"),
    ],
)
def test_a_run_without_usable_items_is_one_error(
    run: Callable[..., Path], harm: Callable[[Path], None], options: list[str], sentence: str
) -> None:
    folder = run(names=("dialogue", "nli"))
    harm(folder)
    result = RUNNER.invoke(app, ["rescore", str(folder), *options])
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(folder.parent.iterdir()) == [folder]


def test_no_torch_is_needed(run: Callable[..., Path]) -> None:
    folder = run(names=("nli", "dialogue", "ner"))
    script = (
        "import sys; from audit.cli import app\n"
        f"try: app(['rescore', {str(folder)!r}])\n"
        "except SystemExit: pass\n"
        "print('imported', *({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1] == "imported", done.stdout + done.stderr
    assert len(list(folder.parent.iterdir())) == 2


def test_a_real_run_is_reproduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit import Audit

    world = build(tmp_path)
    audit = Audit(**world.options(editor="vandal", store=tmp_path / "store", edit_count=2))
    report = audit.run(["dialogue", "summarization", "ner"])
    folder = write_report(report, tmp_path / "reports")
    new = rescored(folder)
    assert new.abilities == report.abilities
    assert [asked(item) for item in new.items] == [asked(item) for item in report.items]
    assert any(item.base.log_likelihoods for item in new.items)


def asked(item: ItemRecord) -> tuple[object, ...]:
    return (
        item.key,
        item.prompt,
        item.gold,
        item.base.text,
        item.base.log_likelihoods,
        [one.text for one in item.edited],
    )
