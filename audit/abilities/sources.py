"""Where items come from, and which of them a run asks: the same seeded subset for base and edited, every time."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audit.abilities import load_ability
from audit.abilities.contract import Ability, Item, Row, questions
from audit.errors import AuditError


class Source(Protocol):
    """Rows of an ability in the columns of the real data set, in a fixed order.

    Labels may be the data set's numbers or, safer, its own label names (copies differ in the order of numbers).
    """

    @property
    def name(self) -> str:
        """What messages call this source."""
        ...

    def rows(self, ability_name: str) -> Sequence[Row]: ...


@dataclass(frozen=True)
class PocketSource:
    """The held-out tasks of the pocket world."""

    name: str = "pocket"

    def rows(self, ability_name: str) -> Sequence[Row]:
        from audit.pocket.tasks import held_out_rows  # generated, so only when asked for

        return held_out_rows(load_ability(ability_name).data_name)


@dataclass(frozen=True)
class FolderSource:
    """A local folder with one JSON Lines file an ability, named after its data set: `gsm8k.jsonl`, `rte.jsonl`, ..."""

    folder: Path

    @property
    def name(self) -> str:
        return str(self.folder)

    def rows(self, ability_name: str) -> Sequence[Row]:
        path = self.folder / f"{load_ability(ability_name).data_name}.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as cause:
            raise AuditError(f"cannot read {path} for {ability_name!r} ({cause}); put a UTF-8 file there") from cause
        return [_row(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def source_of_data(data: str) -> Source:
    """The source that `--data` names: the pocket world or a folder."""
    return PocketSource() if data == "pocket" else FolderSource(Path(data).expanduser())


def _row(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as cause:
        raise AuditError(f"{path}, line {number} is not JSON ({cause.msg}); give one object a line") from cause
    if not isinstance(row, dict):
        raise AuditError(f"{path}, line {number} holds a {type(row).__name__}; give one object a line")
    return row


def items(ability: Ability, source: Source, limit: int | None, seed: int) -> tuple[Item, ...]:
    """A seeded subset of at most `limit` items (None: all), in a seeded order.

    The order is that of a hash over seed, ability and row number. So it is the same on every machine and in every
    process, a smaller limit asks a prefix of what a larger one asks, and rows added at the end of a source leave the
    order of the others as it was. Every asked row must be usable: a bad one is an error, not a silent gap.
    """
    if limit is not None and limit < 1:
        raise AuditError(f"a limit of {limit} items asks nothing; give at least 1")
    rows = source.rows(ability.name)
    if not rows:
        raise AuditError(f"source {source.name!r} has no rows for the ability {ability.name!r}; choose another source")

    def place(index: int) -> bytes:
        return hashlib.sha256(f"{seed}:{ability.name}:{index}".encode()).digest()

    order = sorted(range(len(rows)), key=place)[:limit]
    return tuple(item for index in order for item in questions(ability, rows[index], f"{ability.name}/{index}"))
