"""`audit curve`, `audit budget` and `audit bisect`: from options to files, exit codes and errors."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.cli import app

RUNNER = CliRunner()


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A plan on the pocket model that does nothing."""
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    plan = f"--editor identity --model pocket-gpt2 --edit-count 2 --limit 80 --reports {tmp_path / 'reports'}"
    return plan.split()


def test_a_curve_prints_a_table_and_writes_files(typed: list[str], tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["curve", "sentiment", *typed])
    assert done.exit_code == 0, done.output
    assert "1 edit: all PASS\n2 edits: all PASS" in done.output
    assert "efficacy retained" in done.output
    for name in ("curve.json", "curve.csv", "curve.md", "curve.png", "curve.svg", "curve.html"):
        assert (tmp_path / "reports" / "curve-identity-pocket-gpt2" / name).stat().st_size > 0, name


def test_a_budget_is_printed_with_its_guarantee(typed: list[str], tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["budget", "sentiment", *typed])
    assert done.exit_code == 0, done.output
    assert "budget: at least 2 edits of identity on pocket-gpt2 pass, all edits of the plan." in done.output
    assert (tmp_path / "reports" / "budget-identity-pocket-gpt2" / "budget.md").is_file()


def test_a_curve_can_stop_early(typed: list[str], tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["curve", "sentiment", *typed, "--early-stop", "--margin", "sentiment=0.3"])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "reports" / "curve-identity-pocket-gpt2" / "curve.json").read_text(encoding="utf-8")
    verdict = json.loads(text)["points"][0]["abilities"][0]["verdict"]
    assert (verdict["outcome"], verdict["method"]) == ("PASS", "betting")


def test_a_budget_of_zero_fails(typed: list[str]) -> None:
    done = RUNNER.invoke(app, ["budget", "sentiment", *typed, "--editor", "vandal"])
    assert done.exit_code == 1, done.output
    assert "budget: none" in done.output


def test_bisect_finds_the_one_harmful_edit(typed: list[str], tmp_path: Path) -> None:
    planted = ["--editor", "tests.workflows.planted:Planted", "--edit-mode", "batch-single", "--edit-count", "8"]
    configured = ["--editor-config", "victim=pocket-65", "--editor-config", "scale=16"]
    done = RUNNER.invoke(app, ["bisect", "--ability", "sentiment", *typed, *planted, *configured])
    assert done.exit_code == 0, done.output
    assert "costs " in done.output and "points of sentiment, 90 % interval [" in done.output
    assert (tmp_path / "reports" / "bisect-Planted-pocket-gpt2" / "culprits.md").is_file()


def test_a_harmless_plan_has_nothing_to_find(typed: list[str]) -> None:
    done = RUNNER.invoke(app, ["bisect", "--ability", "sentiment", *typed])
    assert done.exit_code == 1
    assert "the edit plan does not fail, so there is nothing to find: sentiment PASS" in done.output


@pytest.mark.parametrize("command", ["curve", "budget", "bisect"])
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--editor", "memitt"], "there is no editor 'memitt'"),
        (["--edit-count", "ten"], "--edit-count 'ten'"),
        (["--edit-mode", "instance-single"], "makes a model for every edit"),
    ],
)
def test_a_mistake_is_one_sentence(typed: list[str], command: str, wrong: list[str], sentence: str) -> None:
    done = RUNNER.invoke(app, [command, *typed, *wrong])
    assert done.exit_code == 2
    assert sentence in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("command", ["curve", "budget", "bisect"])
def test_an_unknown_ability_is_one_sentence(typed: list[str], command: str) -> None:
    named = ["--ability", "maths"] if command == "bisect" else ["maths"]
    done = RUNNER.invoke(app, [command, *named, *typed])
    assert done.exit_code == 2
    assert "there is no ability 'maths'" in done.output


@pytest.mark.parametrize("command", ["curve", "budget", "bisect"])
def test_help_has_the_options_of_an_edit_plan_and_the_exit_codes(command: str) -> None:
    text = RUNNER.invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    shown = " ".join(text.split())
    assert "--edit-count" in shown and "--no-store" in shown and "Exit code: 0" in shown
    assert "--edited  " not in text
