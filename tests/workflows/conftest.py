"""A small world with 65 edit requests, and items that its random model answers correctly."""

from pathlib import Path

import pytest

from tests.small_audit import NAMES, SmallWorld, build, requests, teach, write_lines

GOOD_EDITS = 64


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """Open-domain questions with a base score of 1; 64 requests and one more."""
    root: Path = tmp_path_factory.mktemp("taught")
    world = build(root)
    teach(world, rows=100)
    one = requests()[0]
    rows = []
    for number in range(GOOD_EDITS + 1):
        name = f"{NAMES[number % 4]} {'abcdefghijklmnopqrstuvwxyz'[number % 26]}{number}"
        rows.append(
            {
                **one,
                "case_id": f"case-{number}",
                "subject": name,
                "paraphrases": [],
                "neighborhood": [],
                "portability": [],
            }
        )
    write_lines(world.edits, rows)
    return world
