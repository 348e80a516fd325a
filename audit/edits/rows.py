"""Rows of a file of edit requests: JSON objects with their row and line numbers, and checked access to their fields.

A file of any name can have two layouts: one JSON object on each line, or one JSON array of objects.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.errors import AuditError
from audit.store.files import read_bytes

LAYOUT_REMEDY = "write one complete JSON object on each line, or one JSON array of objects"
_JSON_SPACE = " \t\r\n"
_KINDS: Mapping[type, str] = {
    dict: "an object", list: "a list", str: "text", bool: "true/false", int: "a number", float: "a number",
    type(None): "null",
}  # fmt: skip


@dataclass(frozen=True)
class SkippedRow:
    """A row of a benchmark's file that cannot be used: the field at fault and the reason.

    Rows and lines are counted from 1; several rows may be on one line.
    """

    file: str
    row: int
    line: int
    field: str
    reason: str


class UnusableError(Exception):
    """A row is well formed but no usable request. An error in our own format; in a benchmark's file, a skipped row."""

    def __init__(self, field: str, reason: str, remedy: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True)
class Row:
    """One JSON object of a file; `path` is the prefix of its fields, if it is inside another ("requested_rewrite.").

    `number` is its place among the rows and `line` the line on which it starts, both counted from 1.
    """

    file: str
    number: int
    line: int
    values: Mapping[str, Any]
    path: str = ""

    @property
    def place(self) -> str:
        """The file, the row and the line, for messages."""
        return f"{self.file}, row {self.number}, line {self.line}"

    def error(self, field: str, reason: str, remedy: str) -> AuditError:
        """An error about this field: file, row, line, field, reason, remedy."""
        return AuditError(f"{self.place}, field '{self.path}{field}': {reason}; {remedy}.")

    def value(self, field: str) -> Any:
        if field not in self.values:
            raise self.error(field, "is missing", f"add '{field}' to this row (see docs/edit-requests.md)")
        return self.values[field]

    def text(self, field: str) -> str:
        """The text of `field`, stripped; it may be empty."""
        return self._as_text(field, self.value(field))

    def texts(self, field: str) -> tuple[str, ...]:
        """The list of texts of `field`."""
        entries = self._as_list(field, self.value(field), "texts")
        return tuple(self._as_text(f"{field}[{index}]", entry) for index, entry in enumerate(entries))

    def optional_text(self, field: str) -> str:
        """The text of `field`, stripped; empty if it is missing or null."""
        return "" if self.values.get(field) is None else self.text(field)

    def answers(self, field: str) -> tuple[str, ...]:
        """The text of `field`, or all texts of a list that may hold lists, without empty ones; none for null."""
        return tuple(dict.fromkeys(filter(None, self._leaves(field, self.value(field)))))

    def inside(self, field: str) -> "Row":
        """The object of `field` as a row, whose errors name the whole path."""
        return self._as_row(field, self.value(field))

    def objects(self, field: str) -> tuple["Row", ...]:
        """The list of objects of `field`."""
        entries = self._as_list(field, self.value(field), "objects")
        return tuple(self._as_row(f"{field}[{index}]", entry) for index, entry in enumerate(entries))

    @property
    def case_id(self) -> str:
        """The field `case_id`, text or a whole number; the number of the row if it has none."""
        value = self.values.get("case_id")
        if value is None:
            return f"row-{self.number}"
        return str(value) if type(value) is int else self._as_text("case_id", value)

    def _as_text(self, field: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self.error(field, f"is {kind(value)} ({shown(value)}), not text", "write it in quotes")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise self.error(
                field,
                f"contains a lone surrogate ({shown(value)})",
                "write the character itself or its full escape pair",
            ) from None
        return value.strip()

    def _leaves(self, field: str, value: Any) -> Iterator[str]:
        if isinstance(value, list):
            for index, entry in enumerate(value):
                yield from self._leaves(f"{field}[{index}]", entry)
        elif value is not None:
            yield self._as_text(field, value)

    def _as_list(self, field: str, value: Any, of: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.error(field, f"is {kind(value)} ({shown(value)}), not a list", f"write a list of {of} in [ ]")
        return value

    def _as_row(self, field: str, value: Any) -> "Row":
        if not isinstance(value, dict):
            raise self.error(field, f"is {kind(value)} ({shown(value)}), not an object", "write an object in { }")
        return Row(self.file, self.number, self.line, value, f"{self.path}{field}.")


def kind(value: Any) -> str:
    """The type of a JSON value in words."""
    return _KINDS[type(value)]


def shown(value: Any, limit: int = 60) -> str:
    """A JSON value on one line, cut to `limit` characters."""
    line = json.dumps(value, ensure_ascii=not isinstance(value, str) or not value.isprintable())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def read_rows(path: Path) -> tuple[Row, ...]:
    """All rows of an edit file.

    Raises:
        AuditError: the file is missing, a directory, unreadable, binary, empty, or not JSON objects.
    """
    text = _read_text(path)
    opening = text.lstrip(_JSON_SPACE)
    if not opening:
        raise AuditError(f"{path}: the file is empty; {LAYOUT_REMEDY}.")
    entries = _array_entries(path, text) if opening[0] == "[" else _line_entries(path, text)
    rows = tuple(_object_row(path, number, *entry) for number, entry in enumerate(entries, start=1))
    if not rows:
        raise AuditError(f"{path}: the list is empty; add at least one edit request.")
    return rows


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise AuditError(f"{path}: is a folder; give one file of edit requests inside it.")
        text = read_bytes(path).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise AuditError(f"{path}: no such file; check the path given to --edits.") from None
    except OSError as problem:
        reason = problem.strerror or problem
        raise AuditError(f"{path}: cannot be read ({reason}); give a file with read permission.") from problem
    except UnicodeDecodeError as problem:
        raise AuditError(
            f"{path}: is not UTF-8 text (byte {problem.start}); save it as plain UTF-8 JSON, unpacked."
        ) from problem
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise AuditError(
            f"{path}, line {line}: contains a NUL byte, so the file is binary; save it as plain UTF-8 JSON."
        )
    return text


def _object_row(path: Path, number: int, line: int, value: Any) -> Row:
    row = Row(str(path), number, line, value)
    if not isinstance(value, dict):
        raise AuditError(f"{row.place}: the row is {kind(value)} ({shown(value)}), not an object; {LAYOUT_REMEDY}.")
    return row


def _line_entries(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    # Not splitlines(): JSON strings may contain U+2028 and other line separators.
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip(_JSON_SPACE):
            continue
        try:
            yield number, _DECODER.decode(line)
        except json.JSONDecodeError as problem:
            whole = _whole_object(text) if not "".join(lines[: number - 1]).strip(_JSON_SPACE) else None
            if whole is None:
                raise _not_json(path, number, f"{problem.msg} at column {problem.colno}") from problem
            yield number, whole
            return
        except (ValueError, RecursionError) as problem:
            raise _not_json(path, number, str(problem)) from problem


def _whole_object(text: str) -> Any:
    """The object that the whole text consists of (over several lines), or None."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _array_entries(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    position = _skip_space(text, text.index("[") + 1)
    line, counted = 1, 0
    closed = text[position : position + 1] == "]"
    while not closed:
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = _DECODER.raw_decode(text, position)
        except json.JSONDecodeError as problem:
            raise _not_json(path, problem.lineno, f"{problem.msg} at column {problem.colno}") from problem
        except (ValueError, RecursionError) as problem:
            raise _not_json(path, line, str(problem)) from problem
        yield line, value
        position = _skip_space(text, position)
        mark = text[position : position + 1]
        if mark not in (",", "]"):
            here = text.count("\n", 0, position) + 1
            raise _not_json(path, here, "the list is not closed" if not mark else f"{shown(mark)} in place of a comma")
        closed = mark == "]"
        position = position if closed else _skip_space(text, position + 1)
    rest = _skip_space(text, position + 1)
    if rest < len(text):
        raise _not_json(path, text.count("\n", 0, rest) + 1, "text after the closing bracket")


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in _JSON_SPACE:
        position += 1
    return position


def _not_json(path: Path, line: int, reason: str) -> AuditError:
    # The decoder's message may contain line breaks.
    return AuditError(f"{path}, line {line}: is not JSON ({' '.join(reason.split())}); {LAYOUT_REMEDY}.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise ValueError(f"the key {shown(key)} occurs twice in one object")
        fields[key] = value
    return fields


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)
