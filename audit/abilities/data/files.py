"""Files of rows: JSON lines, CSV and Parquet, and the source of an ability that has a file of its own.

read_rows(Path("triage.jsonl"), "triage")
FileSource(Path("triage.csv"), training=Path("triage.train.csv"))
"""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

from audit.abilities.contract import Row
from audit.abilities.data import Origin
from audit.abilities.data.columns import with_label_names
from audit.errors import AuditError, first_line
from audit.store.files import parse_json

KINDS = {".jsonl": "UTF-8", ".csv": "UTF-8", ".parquet": "Parquet"}  # by ending: what the file must be


def read_rows(path: Path, ability_name: str) -> list[Row]:
    """The rows of a file, in its order.

    Raises:
        AuditError: the file is not there, is of another kind, or cannot be read.
    """
    if path.suffix not in KINDS:
        raise AuditError(f"{path} for {ability_name} has the ending {path.suffix!r}; give one of {', '.join(KINDS)}.")
    read = {".jsonl": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}[path.suffix]
    try:
        return read(path)
    except (OSError, ValueError, csv.Error) as cause:  # pyarrow's errors and UnicodeDecodeError are ValueErrors
        raise AuditError(
            f"cannot read {path} for {ability_name} ({first_line(cause)}); put a {KINDS[path.suffix]} file there"
        ) from cause


def file_origin(path: Path) -> Origin:
    """The file with the sha256 of its content, if it can be read."""
    try:
        return Origin(str(path), "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest())
    except OSError:
        return Origin(str(path))


@dataclass(frozen=True)
class FileSource:
    """The rows of one ability in a file; worked examples come from the file `training`, if there is one."""

    path: Path
    training: Path | None = None

    @property
    def name(self) -> str:
        return str(self.path)

    def rows(self, ability_name: str) -> list[Row]:
        return read_rows(self.path, ability_name)

    def training_rows(self, ability_name: str) -> list[Row]:
        if self.training is None:
            raise AuditError(f"{ability_name} has no file of training rows; name one, or leave --shots out.")
        return read_rows(self.training, ability_name)

    def origin(self, ability_name: str) -> Origin:
        return file_origin(self.path)

    def check(self) -> None:
        """Raise `AuditError` if one of the files is not there."""
        for path in (self.path, self.training):
            if path is not None and not path.is_file():
                raise AuditError(f"there is no file {path}; put a file of rows there.")


def _json_rows(path: Path) -> list[Row]:
    lines = path.read_text(encoding="utf-8").split("\n")
    return [_row(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _row(path: Path, number: int, line: str) -> Row:
    try:
        row = parse_json(line)
    except ValueError as cause:
        reason = getattr(cause, "msg", None) or cause
        raise AuditError(f"{path}, line {number} is not JSON ({reason}); write one JSON object on each line") from cause
    if not isinstance(row, dict):
        raise AuditError(
            f"{path}, line {number} is a {type(row).__name__}, not an object; write one JSON object on each line"
        )
    return row


def _csv_rows(path: Path) -> list[Row]:
    """The rows under the names in the first line; every value is a text."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows: list[Row] = []
        for row in reader:
            if None in row or None in row.values():
                columns = len(reader.fieldnames or ())
                raise AuditError(
                    f"{path}, line {reader.line_num} has not the {columns} values that the first line names; put "
                    "values with commas into double quotes."
                )
            rows.append(row)
    return rows


def _parquet_rows(path: Path) -> list[Row]:
    """The rows of a Parquet file, with the label names that `datasets` stored in it."""
    from datasets import Features  # slow to import, so only for a Parquet file
    from pyarrow import parquet

    table = parquet.read_table(path)
    return with_label_names(table.to_pylist(), Features.from_arrow_schema(table.schema))
