"""Reading a row's columns, with one clear sentence when a column is missing, empty or of the wrong kind."""

import hashlib
from collections.abc import Sequence
from typing import Any

from audit.abilities.contract import Row
from audit.errors import AuditError


def _value(row: Row, column: str, key: str) -> Any:
    if column not in row:
        raise AuditError(f"row {key} has no column {column!r} (it has {', '.join(sorted(row))}); add it or rename one")
    return row[column]


def text(row: Row, column: str, key: str) -> str:
    """The column's text without blanks at its ends; an absent, empty or non-text value is an error."""
    value = _value(row, column, key)
    if not isinstance(value, str) or not value.strip():
        raise AuditError(f"row {key} has {value!r} in column {column!r}; give a text that is not empty or drop the row")
    return value.strip()


def texts(row: Row, column: str, key: str) -> tuple[str, ...]:
    """The column's list of texts, each stripped; an absent or empty list, or an empty member, is an error."""
    value = _value(row, column, key)
    # A hub data set hands out lists, a data frame arrays: anything that iterates but text will do.
    members = None if isinstance(value, str | bytes) or not hasattr(value, "__iter__") else list(value)
    if not members or not all(isinstance(member, str) and member.strip() for member in members):
        raise AuditError(f"row {key} has {value!r} in column {column!r}; give a list of texts, none of them empty")
    return tuple(member.strip() for member in members)


def class_name(value: Any, names: Sequence[str], column: str, key: str) -> str:
    """The class a label stands for: its name as it is, or the number's place in `names`.

    A source that knows the data set's own label names hands over names, so a copy with another order of numbers is
    read rightly; bare numbers are read in the order of the original data set. -1 marks a hidden label and is an error.
    """
    if isinstance(value, str) and value in names:
        return value
    if not isinstance(value, str | bool) and hasattr(value, "__index__") and 0 <= int(value) < len(names):
        return names[int(value)]
    raise AuditError(
        f"row {key} has {value!r} in column {column!r}; use one of {', '.join(names)} or a number from 0 to "
        f"{len(names) - 1} (a test split may hide its labels: take the validation split)"
    )


def label(row: Row, column: str, names: Sequence[str], key: str) -> str:
    """The class name in a label column; see `class_name`."""
    return class_name(_value(row, column, key), names, column, key)


def question(row: Row, column: str, key: str) -> str:
    """A question that ends in exactly one question mark, whatever the data set does."""
    bare = text(row, column, key).rstrip("? \t\n")
    if not bare:
        raise AuditError(f"row {key} asks nothing in column {column!r}; give a question or drop the row")
    return bare + "?"


def source_of(passage: str) -> str:
    """A short cluster key: the same for items that share a passage, different otherwise."""
    return hashlib.sha256(passage.encode()).hexdigest()[:16]
