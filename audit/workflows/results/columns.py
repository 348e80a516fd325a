"""Columns of JSONL, CSV and Parquet files: read by pyarrow, and again row by row where a row needs a sentence.

    read_columns(Path("base.csv"), {"id": Kind.TEXT, "score": Kind.NUMBER})["score"]   # (n,) floats

The first reading takes a tenth of a second for 100,000 rows. It knows no line numbers and takes no mixed types, so a
file that it refuses is read again by the standard library, which finds the row at fault or accepts the file.
"""

import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from audit.errors import AuditError, first_line
from audit.store.files import parse_json, require_file
from audit.verdicts.intervals import Floats


class Kind(Enum):
    """What a column holds: texts (whole numbers count as such), numbers (so do true and false), or lists of texts."""

    TEXT = "a text or a whole number"
    NUMBER = "a number"
    TEXTS = "a list of texts"
    PAIRS = "a list of lists of texts"


# By name: a list of n texts (or lists), or (n,) floats; a column that no row has is left out.
Columns = dict[str, Any]
Kinds = Mapping[str, Kind]


def read_columns(path: Path, kinds: Kinds) -> Columns:
    """The columns of a file, by its suffix; rows that lack a value have None or NaN.

    Raises:
        AuditError: the file cannot be read, is of no such format, has no rows, or a value is of another kind.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise AuditError(
            f"{path}: {path.suffix or 'a name without a suffix'} is no format of results; give one of "
            f"{', '.join(READERS)}, .eval or .json, unpacked."
        )
    with_file(path)
    return reader(path, kinds)


def with_file(path: Path) -> Path:
    """The path, if there is a regular file; raises `AuditError` for anything else."""
    try:
        require_file(path)
    except OSError as problem:
        raise unreadable(path, problem) from None
    if not path.stat().st_size:
        raise AuditError(f"{path}: the file is empty; give a file with at least one item.")
    return path


def unreadable(path: Path, problem: OSError) -> AuditError:
    """The error about a path that cannot be opened."""
    reason = problem.strerror if problem.errno else str(problem)
    return AuditError(f"{path}: cannot be read ({reason}); give a file or folder of results.")


def first_row(path: Path) -> dict[str, Any]:
    """The first JSON object of a file with one on each line; raises `AuditError` if there is none."""
    return next(_json_rows(path))[1]


def _jsonl(path: Path, kinds: Kinds) -> Columns:
    import pyarrow as pa
    from pyarrow import json as arrow_json

    first = first_row(path)
    types = {
        Kind.NUMBER: pa.float64(),
        Kind.TEXTS: pa.list_(pa.string()),
        Kind.PAIRS: pa.list_(pa.list_(pa.string())),
    }
    whole = {name for name, value in first.items() if isinstance(value, int)}
    schema = pa.schema(
        [(name, types.get(kind, pa.int64() if name in whole else pa.string())) for name, kind in kinds.items()]
    )
    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        table = arrow_json.read_json(
            path, read_options=arrow_json.ReadOptions(block_size=16 << 20), parse_options=options
        )
    except pa.ArrowException:
        return _row_by_row(path, _json_rows(path), kinds)
    return _from_arrow(path, table, kinds)


def _csv(path: Path, kinds: Kinds) -> Columns:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    mark = "\t" if path.suffix.lower() == ".tsv" else ","
    types = {name: pa.float64() if kind is Kind.NUMBER else pa.string() for name, kind in kinds.items()}
    headings = next(csv.reader((line for _, line in _lines(path)), delimiter=mark), [])
    twice = {name for name in headings if headings.count(name) > 1} & kinds.keys()
    if twice:
        raise AuditError(f"{path}: the column {min(twice)!r} occurs twice; name each column once.")
    wanted = [name for name in headings if name in kinds]
    if not wanted:
        raise AuditError(
            f"{path}: its columns are {', '.join(headings)}; name them 'id' and 'score' in the first line."
        )
    try:
        table = arrow_csv.read_csv(
            path,
            parse_options=arrow_csv.ParseOptions(delimiter=mark, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(column_types=types, include_columns=wanted),
        )
    except pa.ArrowException:
        return _row_by_row(path, _csv_rows(path, mark, kinds), kinds)
    return _from_arrow(path, table, kinds)


def _parquet(path: Path, kinds: Kinds) -> Columns:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        table = file.read([name for name in file.schema_arrow.names if name in kinds])
    except (pa.ArrowException, OSError) as problem:
        raise AuditError(f"{path}: is no Parquet file ({first_line(problem)}); write it again.") from None
    for name, type_ in zip(table.schema.names, table.schema.types, strict=True):
        whole, real = pa.types.is_integer(type_), pa.types.is_floating(type_) or pa.types.is_boolean(type_)
        texts = pa.types.is_string(type_) or pa.types.is_large_string(type_)
        if not (whole or (real if kinds[name] is Kind.NUMBER else texts)):
            raise AuditError(f"{path}: the column {name!r} has the type {type_}; give {kinds[name].value}.")
    return _from_arrow(path, table, kinds)


READERS: Mapping[str, Callable[[Path, Kinds], Columns]] = {
    ".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet,
}  # fmt: skip


def _from_arrow(path: Path, table: Any, kinds: Kinds) -> Columns:
    if not table.num_rows:
        raise AuditError(f"{path}: there are no rows; give a file with at least one item.")
    found: Columns = {}
    for name in table.schema.names:
        column = table[name]
        if column.null_count == table.num_rows:
            continue
        values = column.to_pylist()  # `cast` and `to_numpy` would import a fifth of a second's worth of modules
        if kinds[name] is Kind.NUMBER:
            found[name] = np.array(values, dtype=np.float64)
        elif kinds[name] is Kind.TEXT and "int" in str(column.type):
            found[name] = [None if value is None else str(value) for value in values]
        else:
            found[name] = values
    return found


def _row_by_row(path: Path, rows: Iterator[tuple[int, dict[str, Any]]], kinds: Kinds) -> Columns:
    """The same columns; every value is looked at, so that an error names the line."""
    columns: dict[str, list[Any]] = {name: [] for name in kinds}
    for line, row in rows:
        for name, kind in kinds.items():
            value = row.get(name)
            columns[name].append(None if value is None else _value(value, kind, f"{path}, line {line}", name))
    return {
        name: _floats(values) if kinds[name] is Kind.NUMBER else values
        for name, values in columns.items()
        if any(value is not None for value in values)
    }


def _floats(values: list[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _value(value: Any, kind: Kind, place: str, name: str) -> Any:
    if kind is Kind.NUMBER and isinstance(value, int | float):
        return float(value)
    if kind is Kind.TEXT and isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    if kind in (Kind.TEXTS, Kind.PAIRS) and isinstance(value, list):
        return value
    shown = json.dumps(value)
    raise AuditError(f"{place}: {name!r} is {shown[:60]}{'...' * (len(shown) > 60)}; give {kind.value}.")


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with one on each line, with their lines."""
    empty = True
    for number, line in _lines(path):
        if not line.strip():
            continue
        empty = False
        try:
            row = parse_json(line)
        except ValueError as problem:
            raise AuditError(
                f"{path}, line {number}: is not JSON ({first_line(problem)}); write one complete object on each line."
            ) from None
        if not isinstance(row, dict):
            raise AuditError(f"{path}, line {number}: is no JSON object; write one complete object on each line.")
        yield number, row
    if empty:
        raise AuditError(f"{path}: there are no rows; give a file with at least one item.")


def _csv_rows(path: Path, mark: str, kinds: Kinds) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader((line for _, line in _lines(path)), delimiter=mark)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise AuditError(
                    f"{path}, line {reader.line_num}: has another number of cells than the first line; write one cell "
                    "for each column."
                )
            yield reader.line_num, {name: _cell(row[name], kind) for name, kind in kinds.items() if name in row}
    except csv.Error as problem:
        raise AuditError(f"{path}, line {reader.line_num}: is not CSV ({problem}); write it again.") from None


def _cell(text: str, kind: Kind) -> Any:
    """The value of a cell, as pyarrow reads it; a text where it should be a number stays one."""
    if kind is not Kind.NUMBER or not text.strip():
        return text.strip() or None
    try:
        return float(text)
    except ValueError:
        return {"true": True, "false": False}.get(text.strip().lower(), text)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a file of UTF-8 text."""
    number = 0
    try:
        with with_file(path).open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except OSError as problem:
        raise unreadable(path, problem) from None
    except UnicodeDecodeError:
        raise AuditError(f"{path}, line {number}: is not UTF-8 text; save the file as UTF-8, unpacked.") from None


def folder_files(folder: Path) -> list[Path]:
    """The files in a folder and in the folders of its folders, sorted; links to folders are not followed."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        if len(Path(parent).relative_to(folder).parts) == 2:
            folders.clear()
        found += [Path(parent) / name for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())
