"""`--no-items`: the reports have the keys and scores of the items, and no text of the data or of a model."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audit import Audit
from audit.cli import app
from audit.reports.folder import read_report, write_report
from audit.reports.rows import AnswerRecord, RunReport
from tests.pytest_plugin.conftest import RealSuites
from tests.small_audit import SmallWorld, build

pytest_plugins = ("pytester",)
# What only the rows say; the edit requests, whose phrases `mentions` names, do not.
PHRASES = ("coins and finds", "where does", "lives at", "m : is it", "comes at", "film no.", "f : a")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(tmp_path_factory.mktemp("world"))


def audit_of(world: SmallWorld, store: Path, **more: Any) -> Audit:
    return Audit(**world.options(editor="vandal", store=store, device="cpu", triage=False, prompting="plain", **more))


def texts_in(folder: Path) -> str:
    return "".join(file.read_text(encoding="utf-8") for file in folder.iterdir())


def numbers(report: RunReport) -> list[tuple[object, ...]]:
    return [
        (item.ability, item.key, item.cluster, item.mentions, item.flips, item.base.score, item.edited_score)
        for item in report.items
    ]


@pytest.mark.parametrize("reading", ["auto", "likelihood"])
def test_no_file_of_the_run_has_a_text_of_an_item(world: SmallWorld, tmp_path: Path, reading: str) -> None:
    options = {} if reading == "auto" else {"reading": {"": reading}}
    whole, bare = (
        audit_of(world, tmp_path / "store", item_texts=texts, **options).run() for texts in (True, False)
    )  # fmt: skip
    folder = write_report(bare, tmp_path)
    text = texts_in(folder)
    assert not [phrase for phrase in PHRASES if phrase in text]
    assert all(phrase in texts_in(write_report(whole, tmp_path)) for phrase in PHRASES)
    assert numbers(read_report(folder, with_items=True)) == numbers(whole)
    assert [row.verdict for row in bare.abilities] == [row.verdict for row in whole.abilities]
    for item in bare.items:
        answers: list[AnswerRecord | None] = [item.base, *item.edited, item.floor]
        assert {(one.text, one.value, one.tokens) for one in answers if one is not None} == {("", None, None)}
        assert item.base.beside or item.ability not in ("summarization", "open_qa")


def test_such_a_run_cannot_be_scored_again_and_says_why(world: SmallWorld, tmp_path: Path) -> None:
    folder = write_report(audit_of(world, tmp_path / "store", item_texts=False).run(["nli"]), tmp_path)
    result = CliRunner().invoke(app, ["rescore", str(folder)])
    assert result.exit_code == 2
    said = "was written with --no-items, so it has no answers to score"
    assert said in " ".join(result.output.split()), result.output


def test_the_option_of_pytest_leaves_them_out_of_what_is_shown_too(
    real_suites: RealSuites, pytester: pytest.Pytester, world: SmallWorld
) -> None:
    pytester.makepyfile(
        test_open_qa="def test_it(degradation):\n    assert degradation('open_qa', max_drop=0.0) == 'PASS'\n"
    )
    shared = ("--editor", "vandal", "--no-triage", "--no-store", "--junitxml=out.xml", "-p", "audit.pytest_plugin")
    result = real_suites.run(world, *shared, "--no-items")
    (folder,) = (pytester.path / "reports").iterdir()
    assert json.loads((folder / "verdict.json").read_text(encoding="utf-8"))["settings"]["item_texts"] is False
    shown = result.stdout.str() + texts_in(folder) + (pytester.path / "out.xml").read_text(encoding="utf-8")
    assert "open_qa/" in shown and "where does" not in shown
