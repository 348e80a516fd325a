"""Labels by their names: a stored number means what its data set's own features say, never what another copy says."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from audit.abilities.contract import Row


def with_label_names(rows: Iterable[Row], features: Mapping[str, Any]) -> list[Row]:
    """The rows with every label number replaced by its class name; `features` are those of `datasets`, by column.

    A number that names no class (-1 marks a hidden label) stays as it is, for the ability to complain about.
    """
    names = {column: found for column, feature in features.items() if (found := _class_names(feature))}
    return [{column: _named(value, names.get(column, ())) for column, value in row.items()} for row in rows]


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
