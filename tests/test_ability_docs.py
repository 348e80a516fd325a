"""The page docs/write-an-ability.md: its examples are abilities, and its commands lead to a verdict."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from audit.abilities.presentation import read_as
from audit.abilities.registry import ENTRY_POINT_GROUP, AbilityEntry, load_entry
from audit.abilities.toml.description import _KEYS, FLOORS, METRICS, READINGS
from audit.pytest_plugin import hooks
from tests.abilities.triage import TWO_TEAMS, teach_teams, tickets, write_ability

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "write-an-ability.md").read_text(encoding="utf-8")
MOST_LINES, MOST_COMMANDS = 36, 5


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def entries(tmp_path: Path) -> dict[str, AbilityEntry]:
    """The ability of the page as a file and as a class."""
    path = write_ability(tmp_path, blocks("toml")[0], tickets(24))
    (tmp_path / "tasks.py").write_text(blocks("python")[0], encoding="utf-8")
    return {"file": load_entry(str(path)), "class": load_entry(f"{tmp_path / 'tasks.py'}:Triage")}


def test_the_examples_are_about_thirty_lines() -> None:
    for code in (blocks("toml")[0], blocks("python")[0]):
        assert len([line for line in code.splitlines() if line.strip()]) <= MOST_LINES


@pytest.mark.parametrize("kind", ["file", "class"])
def test_the_examples_are_abilities(entries: dict[str, AbilityEntry], kind: str) -> None:
    entry = entries[kind]
    entry.check()
    ability = entry.ability
    assert ability is not None and entry.source is not None
    row = entry.source.rows("triage")[1]
    item = ability.item(row, "triage/1")
    assert ability.prompt(item) == "Ticket: The app crashes (case 1).\nTeam:"
    for said, score in ((" It is Technical.", 1), (" billing", 0), (" ?", 0)):
        assert ability.score(item, ability.parse(said)).value == score
    for reading in ("answers", "choices", "likelihood"):
        assert read_as(ability, reading).reading == reading
    assert ability.item({**row, "text": "other"}, "triage/9").cluster == item.cluster


def test_every_key_of_a_description_is_on_the_page() -> None:
    for word in (*(key for keys in _KEYS.values() for key in keys), *METRICS, *READINGS, *FLOORS):
        assert re.search(rf"\b{re.escape(word)}\b", PAGE), word


def test_the_other_examples_name_what_there_is() -> None:
    (group,) = tomllib.loads(blocks("toml")[1])["project"]["entry-points"]
    assert group == ENTRY_POINT_GROUP
    (handed,) = re.findall(r"def (\w+)\(\):", blocks("python")[2])
    assert hasattr(hooks, handed)


def test_the_commands_lead_from_an_empty_folder_to_a_verdict(tmp_path: Path) -> None:
    """In a folder outside of the repository, with rows that pocket-llama tells apart by its log-odds."""
    commands = blocks("bash")[0].splitlines()
    assert len(commands) <= MOST_COMMANDS
    rows: list[dict[str, Any]] = teach_teams("pocket-llama", tmp_path / "teams", tickets(200))
    write_ability(tmp_path, TWO_TEAMS, rows, name="my_tickets")
    programs = {"audit": '-c "from audit.cli import main; main()"', "pytest": "-m pytest -p no:cacheprovider"}
    (tmp_path / "bin").mkdir()
    for name, what in programs.items():
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {what} "$@"\n', encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    own = {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "AUDIT_STORE": str(tmp_path / "store"),
        "COLUMNS": "100",
    }
    two = [line for command in commands[-2:] for line in (command, "echo code $?")]
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -e", *commands[:-2], "set +e", *two])],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST")} | own,
        capture_output=True,
        text=True,
        timeout=900,
    )
    codes = [int(code) for code in re.findall(r"^code (\d)$", done.stdout, flags=re.MULTILINE)]
    outcomes = re.findall(r"^(PASS|FAIL|INCONCLUSIVE): rome on pocket-llama", done.stdout, flags=re.MULTILINE)
    assert len(codes) == len(outcomes) == 2, done.stdout + done.stderr
    assert codes[0] == {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}[outcomes[0]]
    assert codes[1] == {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 1}[outcomes[1]]
    reports = sorted((tmp_path / "tickets" / "reports").glob("*/verdict.json"))
    for report in reports:
        (row,) = json.loads(report.read_text(encoding="utf-8"))["abilities"]
        assert row["ability"] == "triage" and row["trials"]
        assert row["verdict"]["n"] >= 100 and row["verdict"]["base"] > row["verdict"]["floor"]
    assert len(reports) == 2
