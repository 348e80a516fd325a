"""The guides and the tutorial: their commands and options exist, and their examples run."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from audit import write_report
from audit.cli import app
from audit.settings.options import OPTIONS
from audit.verdicts import Outcome
from tests.reports.sample import REPORT

DOCS = Path(__file__).resolve().parents[1] / "docs"
TUTORIAL = DOCS / "first-verdict.md"
GUIDES = [TUTORIAL, DOCS / "which-command.md", DOCS / "files.md", *sorted((DOCS / "commands").glob("*.md"))]
PARAMETERS: dict[str, Any] = {name: one.params for name, one in typer.main.get_command(app).commands.items()}  # type: ignore[attr-defined]
OF_PYTEST = {"--junitxml", "--help", "-n"}
LONGEST_LIMIT = "20"  # items, of the commands that a test runs


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path, program: str) -> list[list[str]]:
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True)) and words[0] == program]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_commands_name_what_there_is(page: Path) -> None:
    for words in commands(page, "audit"):
        flags = {flag for one in PARAMETERS[words[1]] for flag in one.opts}
        assert {word for word in words[2:] if word.startswith("-")} <= flags | {"--help"}, words
    for words in commands(page, "pytest"):
        flags = {option.flag for option in OPTIONS} | OF_PYTEST
        assert {word.partition("=")[0] for word in words[1:] if word.startswith("-")} <= flags, words
        suites = [word for word in words[1:] if word.startswith("suites/")]
        assert suites and all((DOCS.parent / suite).exists() for suite in suites)


def test_a_guide_runs_its_own_command() -> None:
    for page in (DOCS / "commands").glob("*.md"):
        program, name = ("pytest", "suites/") if page.stem == "pytest" else ("audit", page.stem)
        assert any(words[1].startswith(name) for words in commands(page, program)), page.name


def test_options_in_the_text_exist() -> None:
    known = {flag for one in PARAMETERS.values() for option in one for flag in option.opts} | OF_PYTEST
    for page in GUIDES:
        shown = set(re.findall(r"`(--[a-z][a-z-]+)", page.read_text(encoding="utf-8")))
        assert shown <= known | {"--help", "--audit-device"}, page.name


def test_the_first_commands_of_the_tutorial_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those on the pocket model, with fewer items."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    wanted = [words for words in commands(TUTORIAL, "audit") if words[1] == "run" and "--model" not in words]
    assert len(wanted) >= 2
    for words in wanted:
        result = CliRunner().invoke(app, [*words[1:], "--limit", LONGEST_LIMIT])
        assert result.exit_code in (0, 1, 3), result.output
    runs = [json.loads(path.read_text("utf-8")) for path in sorted(Path("reports").glob("*/verdict.json"))]
    assert [run["header"]["editor"] for run in runs] == [words[words.index("--editor") + 1] for words in wanted]
    assert all(len(run["abilities"]) == 8 for run in runs)
    assert [row["verdict"]["drop"] for row in runs[0]["abilities"]] == [0.0] * 8


def test_the_edit_requests_of_the_tutorial_load(tmp_path: Path) -> None:
    from audit.edits.sources import load_requests

    (lines,) = blocks(TUTORIAL, "json")
    (tmp_path / "facts.jsonl").write_text(lines, encoding="utf-8")
    assert len(load_requests(str(tmp_path / "facts.jsonl")).requests) == len(lines.splitlines())


def test_the_example_that_reads_files_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_report(replace(REPORT, items=tuple(replace(item, flips=("right to wrong",)) for item in REPORT.items)))
    (code,) = blocks(DOCS / "files.md", "python")
    exec(compile(code, "docs/files.md", "exec"), {"__name__": "page"})
    *rows, last = capsys.readouterr().out.splitlines()
    assert [row.split()[:2] for row in rows] == [[row.ability, row.outcome.value] for row in REPORT.abilities]
    assert last == f"{len(REPORT.items)} items, {len(REPORT.items)} lost"


def test_the_example_of_the_api_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    (code,) = blocks(DOCS / "api.md", "python")
    exec(compile(code.replace("limit=60", f"limit={LONGEST_LIMIT}"), "docs/api.md", "exec"), {"__name__": "page"})
    written = Path(capsys.readouterr().out.splitlines()[-1])
    assert Outcome(json.loads((written / "verdict.json").read_text(encoding="utf-8"))["outcome"])
