"""The sources of `--data`, and the items of a run: the same seeded subset for the base and the edited model."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.abilities import ABILITIES, data_name
from audit.abilities.contract import Ability, Item, Row, items_of
from audit.abilities.data import Origin, Source
from audit.abilities.data.files import file_origin, read_rows
from audit.errors import AuditError
from audit.store.content import Store

KINDS = ("jsonl", "parquet")


@dataclass(frozen=True)
class PocketSource:
    """The held-out rows of the pocket world."""

    name: str = "pocket"

    def rows(self, ability_name: str) -> Sequence[Row]:
        from audit.pocket.tasks import held_out_rows  # generates rows, so only when needed

        return held_out_rows(data_name(ability_name))

    def training_rows(self, ability_name: str) -> Sequence[Row]:
        from audit.pocket.tasks import training_rows

        return training_rows(data_name(ability_name))

    def origin(self, ability_name: str) -> Origin:
        return Origin(f"the pocket world's {data_name(ability_name)}")

    def check(self) -> None:
        """Always passes: the pocket world ships with the package."""


@dataclass(frozen=True)
class FolderSource:
    """A local folder with one file for each ability, named after its data set: `gsm8k.jsonl` or `gsm8k.parquet`.

    Worked examples come from `gsm8k.train.jsonl` or `gsm8k.train.parquet`.
    """

    folder: Path

    @property
    def name(self) -> str:
        return str(self.folder)

    def rows(self, ability_name: str) -> Sequence[Row]:
        return self._read(ability_name, data_name(ability_name))

    def training_rows(self, ability_name: str) -> Sequence[Row]:
        return self._read(ability_name, f"{data_name(ability_name)}.train")

    def origin(self, ability_name: str) -> Origin:
        found = self._files(data_name(ability_name))
        return file_origin(found[0]) if found else Origin(str(self.folder))

    def check(self) -> None:
        if not self.folder.is_dir():
            what = "that is a file" if self.folder.exists() else "there is no such folder"
            raise AuditError(f"--data {self.folder}: {what}; give pocket, hub or a folder of data files.")
        names = [data_name(name) for name in ABILITIES]
        if not any(self._files(name) for name in names):
            raise AuditError(
                f"--data {self.folder}: the folder contains no .jsonl or .parquet file named {', '.join(names)}; "
                "put at least one there."
            )

    def _files(self, stem: str) -> list[Path]:
        return [path for kind in KINDS if (path := self.folder / f"{stem}.{kind}").exists()]

    def _read(self, ability_name: str, stem: str) -> list[Row]:
        found = self._files(stem)
        if not found:
            raise AuditError(f"{self.folder} has no {stem}.jsonl or {stem}.parquet for {ability_name}; put one there")
        if len(found) > 1:
            raise AuditError(f"{self.folder} has both {found[0].name} and {found[1].name}; keep one of the two")
        return read_rows(found[0], ability_name)


class RowCache:
    """A source that reads the test rows of each ability only once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rows: dict[str, Sequence[Row]] = {}

    @property
    def name(self) -> str:
        return self._source.name

    def rows(self, ability_name: str) -> Sequence[Row]:
        if ability_name not in self._rows:
            self._rows[ability_name] = self._source.rows(ability_name)
        return self._rows[ability_name]

    def training_rows(self, ability_name: str) -> Sequence[Row]:
        return self._source.training_rows(ability_name)

    def origin(self, ability_name: str) -> Origin:
        return self._source.origin(ability_name)

    def check(self) -> None:
        self._source.check()


def source_of_data(data: str, store: Store | None = None) -> Source:
    """The source that `--data` names: the pocket world, the hub (`store` keeps its commits) or a folder."""
    if data == "pocket":
        return PocketSource()
    if data == "hub":
        from audit.abilities.data.hub import HubSource

        return HubSource(store)
    return FolderSource(Path(data).expanduser())


def seeded_order(count: int, label: str) -> list[int]:
    """The numbers 0 to `count` - 1, sorted by a hash of `label` and the number.

    The order is the same on every machine and in every process, and rows added at the end keep the order of the others.
    """
    return sorted(range(count), key=lambda index: hashlib.sha256(f"{label}:{index}".encode()).digest())


def items(
    ability: Ability, source: Source, limit: int | None, seed: int, judged: int | None = None
) -> tuple[Item, ...]:
    """The items of a seeded subset of at most `limit` rows (None: all), in `seeded_order`.

    The items of a smaller limit are a prefix of those of a larger one. Raises `AuditError` if `limit` is below 1, the
    source has no rows, or a chosen row is not usable.
    """
    if limit is not None and limit < 1:
        raise AuditError(f"--limit {limit} selects no items; give at least 1")
    rows = source.rows(ability.name)
    if not rows:
        raise AuditError(f"source {source.name!r} has no rows for the ability {ability.name!r}; choose another source")
    found: list[Item] = []
    for index in seeded_order(len(rows), f"{seed}:{ability.name}")[:judged][:limit]:
        try:
            found += items_of(ability, rows[index], f"{ability.name}/{index}")
        except AuditError as error:
            raise type(error)(f"{source.origin(ability.name).place}: {error}") from error
    return tuple(found)
