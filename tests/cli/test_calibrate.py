"""`audit calibrate`: from options to a table, files, and the noise floor that later runs check."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.cli import app

RUNNER = CliRunner()


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "100")
    return f"--model pocket-gpt2 --limit 20 --device cpu --reports {tmp_path / 'reports'}".split()


def test_a_calibration_is_shown_written_and_used_by_later_runs(typed: list[str], tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["calibrate", "sentiment", *typed])
    assert done.exit_code == 0, done.output
    assert "sentiment  1.000     20" in done.output
    assert "On pocket-gpt2 a margin of 0.140 or more is possible" in done.output
    folder = tmp_path / "reports" / "calibrate-pocket-gpt2"
    assert json.loads((folder / "calibration.json").read_text(encoding="utf-8"))["model"] == "pocket-gpt2"
    assert (folder / "calibration.md").stat().st_size > 0

    run = ["run", "sentiment", "--editor", "identity", "--edit-count", "1", *typed]
    refused = RUNNER.invoke(app, [*run, "--margin", "sentiment=0.1"])
    assert refused.exit_code == 2, refused.output
    assert "audit: sentiment: a margin of 0.1 is under the noise floor of 0.1391" in refused.output
    sound = RUNNER.invoke(app, [*run, "--margin", "sentiment=0.15"])
    assert sound.exit_code == 0, sound.output
    (report,) = (tmp_path / "reports").glob("*-identity-pocket-gpt2/report.md")
    assert "Noise floor 0.139 (the base model against itself, 20 items)." in report.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--no-store"], "No such option"),
        (["--editor", "memit"], "No such option"),
        (["sentimnt"], "there is no ability 'sentimnt'"),
        (["--limit", "0"], "--limit '0'"),
    ],
)
def test_a_wrong_option_is_one_sentence(wrong: list[str], sentence: str, typed: list[str]) -> None:
    done = RUNNER.invoke(app, ["calibrate", *typed, *wrong])
    assert done.exit_code == 2
    assert sentence in done.output
