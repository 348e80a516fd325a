"""The columns of a row: checked texts, lists and class labels, with an error that names the row and the column."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from audit.abilities.contract import Row
from audit.errors import AuditError


def text(row: Row, column: str, key: str) -> str:
    """The column's text, stripped. Raises `AuditError` if it is absent, empty or not a text."""
    value = _value(row, column, key)
    if not isinstance(value, str) or not value.strip():
        raise AuditError(f"row {key} has {value!r} in column {column!r}; give a text that is not empty or drop the row")
    return value.strip()


def texts(row: Row, column: str, key: str) -> tuple[str, ...]:
    """The column's list of texts, each stripped. Raises `AuditError` if it is absent, empty or has an empty text."""
    value = _value(row, column, key)
    members = _members(value)
    if not members or not all(isinstance(member, str) and member.strip() for member in members):
        raise AuditError(f"row {key} has {value!r} in column {column!r}; give a list of texts, none of them empty")
    return tuple(member.strip() for member in members)


def question(row: Row, column: str, key: str) -> str:
    """The column's question, with exactly one question mark at its end. Raises `AuditError` like `text`."""
    bare = text(row, column, key).rstrip("? \t\n")
    if not bare:
        raise AuditError(f"row {key} has only question marks in column {column!r}; give a question or drop the row")
    return bare + "?"


def label(row: Row, column: str, names: Sequence[str], key: str) -> str:
    """The class name in a label column; see `class_name`."""
    return class_name(_value(row, column, key), names, column, key)


def labels(row: Row, column: str, names: Sequence[str], key: str) -> tuple[str, ...]:
    """The class names in a column with a list of labels; see `class_name`. Raises `AuditError` also for no list."""
    value = _value(row, column, key)
    members = _members(value)
    if members is None:
        raise AuditError(f"row {key} has {value!r} in column {column!r}; give a list of labels or drop the row")
    return tuple(class_name(member, names, column, key) for member in members)


def class_name(value: Any, names: Sequence[str], column: str, key: str) -> str:
    """The class name of a label: the label itself if it is a name, otherwise `names[label]`.

    Numbers follow the order of the original data set. A source that knows a copy's own label names gives names instead
    (see `with_label_names`), because copies differ in the order of numbers. Any other value, also -1 (a hidden label),
    raises `AuditError`.
    """
    if isinstance(value, str) and value in names:
        return value
    if not isinstance(value, str | bool) and hasattr(value, "__index__") and 0 <= int(value) < len(names):
        return names[int(value)]
    raise AuditError(
        f"row {key} has {value!r} in column {column!r}; use one of {', '.join(names)} or a number from 0 to "
        f"{len(names) - 1} (test splits often hide their labels: use the validation split)"
    )


def passage_key(passage: str) -> str:
    """A cluster key, equal for items with the same passage: 16 hex digits of the passage's sha256."""
    return hashlib.sha256(passage.encode()).hexdigest()[:16]


def with_label_names(rows: Iterable[Row], features: Mapping[str, Any]) -> list[Row]:
    """The rows with each label number replaced by its class name; `features` are those of `datasets`, by column.

    A number without a class (-1 marks a hidden label) stays as it is; the ability reports it.
    """
    names = {column: found for column, feature in features.items() if (found := _class_names(feature))}
    return [{column: _named(value, names.get(column, ())) for column, value in row.items()} for row in rows]


def _value(row: Row, column: str, key: str) -> Any:
    if column not in row:
        raise AuditError(f"row {key} has no column {column!r} (it has {', '.join(sorted(row))}); add it or rename one")
    return row[column]


def _members(value: Any) -> list[Any] | None:
    """The members of a list; None for anything else."""
    # The hub gives lists and a data frame gives arrays, so any iterable is accepted except a text and an object.
    none = isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__")
    return None if none else list(value)


def _class_names(feature: Any) -> Sequence[str]:
    """The names of a ClassLabel, or of the ClassLabels in a list; empty for any other feature."""
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
    names: Sequence[str] = getattr(inner, "names", None) or ()
    return names


def _named(value: Any, names: Sequence[str]) -> Any:
    if not names:
        return value
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names)
    return names[value] if known else value
