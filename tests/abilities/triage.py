"""Tickets for tests of abilities that are not built in, and the files of such an ability.

path = write_ability(tmp_path, rows=tickets(60))
path = write_ability(tmp_path, DESCRIPTION.replace("team", "label"))
"""

import json
from pathlib import Path
from typing import Any

TEAMS = ("billing", "technical", "sales")
SAID = (
    ("My invoice is wrong", "I was charged twice", "Please send the bill again"),
    ("The app crashes", "I cannot log in", "The page shows an error"),
    ("How much does it cost", "I want ten licenses", "Do you have a discount"),
)
DESCRIPTION = """
title = "Triage of tickets"
prompt = "Ticket: {{ text }}\\nTeam:"
gold = "team"
cluster = "customer"

[answers]
max_new_tokens = 8

[choices]
labels = ["billing", "technical", "sales"]
"""
TWO_TEAMS = DESCRIPTION.replace(', "sales"', "")


def tickets(count: int = 60) -> list[dict[str, Any]]:
    """Rows with a text, the team, four options with the right one among them, and the customer."""
    return [
        {
            "text": f"{SAID[k % 3][k // 3 % 3]} (case {k}).",
            "team": TEAMS[k % 3],
            "options": [f"{team} {k}" for team in TEAMS],
            "right": f"{TEAMS[k % 3]} {k}",
            "customer": f"customer {k}",
        }
        for k in range(count)
    ]


def write_ability(
    folder: Path, text: str = DESCRIPTION, rows: list[dict[str, Any]] | None = None, name: str = "triage"
) -> Path:
    """Write NAME.toml and NAME.jsonl; returns the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row) + "\n" for row in (tickets() if rows is None else rows))
    (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def teach_teams(model: str, folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, of which the half that the model finds most like billing gets this team: an AUC of 1 by likelihood.

    `folder` is for the files of the ability with two teams.
    """
    from audit.abilities.presentation import read_as
    from audit.abilities.toml.ability import TomlAbility
    from audit.abilities.toml.description import read_description
    from audit.answering.answers import ask
    from audit.models.loading import load_language_model

    asked = [{**row, "team": "billing"} for row in rows]
    ability = read_as(TomlAbility(read_description(write_ability(folder, TWO_TEAMS, asked))), "likelihood")
    items = [ability.item(row, str(k)) for k, row in enumerate(asked)]
    odds = [answer.value for answer in ask(load_language_model(model, device="cpu"), ability, items).answers]
    middle = sorted(odds)[len(odds) // 2]
    return [{**row, "team": TEAMS[int(one < middle)]} for row, one in zip(rows, odds, strict=True)]
