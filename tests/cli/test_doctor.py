"""`audit doctor`: text and data about this installation, and an exit code for scripts."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.reports.workflows.doctor import Checkup, Problem, Section

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)


def found(monkeypatch: pytest.MonkeyPatch, *problems: Problem) -> None:
    sections = (Section("versions", {"python": "3.11", "cuda": [], "mps": False}, problems),)
    monkeypatch.setattr("audit.workflows.doctor.checkup", lambda folder, store: Checkup(sections))


def test_this_installation_is_described() -> None:
    result = RUNNER.invoke(app, ["doctor", "--json", "--store", "here"])
    document = json.loads(result.output)
    assert result.exit_code == (0 if document["usable"] else 1)
    assert list(document) == [
        *("usable", "problems", "versions", "devices", "extras", "store", "resources", "hub", "project"),
    ]
    assert document["store"]["place"] == "here"
    assert document["hub"]["token"] is False
    assert not Path("here").exists()


def test_a_note_does_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, Problem("pytest does not load the plugin here: add a line"))
    result = RUNNER.invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "versions",
        "  python  3.11",
        "  cuda    none",
        "  mps     no",
        "",
        "note: pytest does not load the plugin here: add a line",
        "doctor: audits can run",
    ]


def test_a_broken_installation_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, Problem("a note"), Problem("the store cannot be written: set AUDIT_STORE", breaks=True))
    result = RUNNER.invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert result.output.splitlines()[-3:] == [
        "broken: the store cannot be written: set AUDIT_STORE",
        "note: a note",
        "doctor: 1 problem keeps audits from running",
    ]
    document = json.loads(RUNNER.invoke(app, ["doctor", "--json"]).output)
    assert (document["usable"], [one["breaks"] for one in document["problems"]]) == (False, [True, False])


def test_a_mistake_in_the_project_is_reported_and_does_not_stop_the_checkup() -> None:
    Path("pyproject.toml").write_text("[tool.audit]\nlimti = 5\n", encoding="utf-8")
    result = RUNNER.invoke(app, ["doctor", "--store", "here"])
    assert result.exit_code == 1
    assert "'limti' is not an option that a project can set (did you mean 'limit'?)" in " ".join(result.output.split())
    assert "chosen by         --store" in result.output
