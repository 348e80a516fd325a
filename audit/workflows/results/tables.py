"""Tables of scores: JSONL, CSV or Parquet with the columns `id` and `score`.

Further columns may be there: `ability` (or `task`), `cluster` (the item's source), `floor`, `hash` (of the document),
and `epoch` (or `repeat`), where an item was asked several times. All other columns are ignored.
"""

from pathlib import Path
from typing import Any

import numpy as np

from audit.errors import AuditError
from audit.workflows.results.choices import Choices
from audit.workflows.results.columns import Columns, Kind, read_columns
from audit.workflows.results.task_scores import TaskScores, checked

KINDS = {
    "id": Kind.TEXT,
    "ability": Kind.TEXT,
    "task": Kind.TEXT,
    "cluster": Kind.TEXT,
    "floor": Kind.NUMBER,
    "hash": Kind.TEXT,
    "epoch": Kind.TEXT,
    "repeat": Kind.TEXT,
}


def table_tasks(path: Path, name: str, choices: Choices) -> tuple[TaskScores, ...]:
    """The tasks in a file; without a column `ability` there is one, called `name`.

    Raises:
        AuditError: the file cannot be read, or a column or a value is missing or of the wrong kind.
    """
    metric = choices.metrics.get("", "score")
    columns = read_columns(path, {**KINDS, metric: Kind.NUMBER})
    ids = _required(path, columns, "id")
    _required(path, columns, metric)
    for column, values in columns.items():
        if column != metric and (missing := _missing(values)):
            raise AuditError(
                f"{path}: {missing} rows have no {column!r} and others have one; fill the column or leave it out."
            )
    repeats = columns.get("epoch", columns.get("repeat"))
    named = _abilities(columns, name)
    if repeats is not None and len(set(zip(named, ids, repeats, strict=True))) < len(ids):
        raise AuditError(f"{path}: an item occurs twice in the same epoch; keep one row for each item and epoch.")
    places: dict[str, list[int]] = {}
    for place, ability in enumerate(named):
        places.setdefault(ability, []).append(place)
    found = []
    for ability, rows in places.items():

        def part(column: str, rows: list[int] = rows) -> Any:
            values = columns.get(column)
            if values is None or len(rows) == len(ids):
                return values
            return values[rows] if isinstance(values, np.ndarray) else [values[k] for k in rows]

        floors = part("floor")
        one = floors is not None and bool((floors == floors[0]).all())
        task = TaskScores(
            task=ability,
            metric=metric,
            protocol="table",
            ids=part("id"),
            scores=part(metric),
            content={"hash": part("hash")} if "hash" in columns else {},
            clusters=part("cluster"),
            floor=float(floors[0]) if one else 0.0,
            floors=None if one else floors,
            floor_source="" if floors is None else "the column 'floor'",
        )
        _require_floor(path, task)
        found.append(checked(task, str(path), repeated=repeats is not None))
    return tuple(found)


def _abilities(columns: Columns, name: str) -> list[str]:
    named: list[str] | None = columns.get("ability", columns.get("task"))
    return [name] * len(columns["id"]) if named is None else named


def _required(path: Path, columns: Columns, column: str) -> Any:
    if column in columns:
        return columns[column]
    others = f" (it has {', '.join(columns)})" if columns else ""
    raise AuditError(f"{path}: there is no column {column!r}{others}; give every item an 'id' and a 'score'.")


def _missing(values: Any) -> int:
    return int(np.isnan(values).sum()) if isinstance(values, np.ndarray) else sum(value is None for value in values)


def _require_floor(path: Path, task: TaskScores) -> None:
    if not 0 <= task.floor < 1:
        raise AuditError(
            f"{path}: the floor {task.floor:g} of {task.task} is out of range; give one from 0 to below 1."
        )
