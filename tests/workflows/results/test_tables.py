"""Tables of scores in every format give the same columns, whichever reader takes them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from audit.errors import AuditError
from audit.workflows.results.choices import Choices
from audit.workflows.results.columns import Kind, read_columns
from audit.workflows.results.tables import table_tasks
from audit.workflows.results.task_scores import TaskScores

ROWS: list[dict[str, Any]] = [
    {"id": "a", "score": 1.0, "ability": "nli", "cluster": "p", "extra": "x"},
    {"id": "b", "score": 0.25, "ability": "ner", "cluster": "p", "extra": "y"},
    {"id": "c", "score": 0.0, "ability": "nli", "cluster": "q", "extra": "z"},
]


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix in (".csv", ".tsv"):
        mark = "," if path.suffix == ".csv" else "\t"
        lines = [mark.join(rows[0]), *(mark.join(str(value) for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tasks(path: Path, metric: str = "score") -> dict[str, TaskScores]:
    return {task.task: task for task in table_tasks(path, "all", Choices({"": metric}))}


@pytest.mark.parametrize("name", ["t.jsonl", "t.ndjson", "t.csv", "t.tsv", "t.parquet"])
def test_every_format_gives_the_same(name: str, tmp_path: Path) -> None:
    found = tasks(write(tmp_path / name))
    assert list(found) == ["nli", "ner"]
    assert found["nli"].ids == ["a", "c"] and found["nli"].clusters == ["p", "q"]
    assert found["nli"].scores.tolist() == [1.0, 0.0] and found["ner"].scores.tolist() == [0.25]
    assert found["nli"].floors is None and found["nli"].content == {}


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 7, "score": true}\n\n{"id": "8", "score": false}\n',  # a truth, a blank line, two kinds of id
        "\ufeffid,score\n7,1\n8,0\n",  # a byte order mark
        'id,note,score\n7,"a\nb",true\n8,c,false\n',  # a line break in a cell
        "id,score\n7, 1\n8, 0\n",
    ],
)
def test_unusual_files_are_read_too(text: str, tmp_path: Path) -> None:
    path = tmp_path / ("t.jsonl" if text.startswith("{") else "t.csv")
    path.write_text(text, encoding="utf-8")
    (task,) = tasks(path).values()
    assert (task.task, task.ids, task.scores.tolist()) == ("all", ["7", "8"], [1.0, 0.0])


def test_the_two_readings_of_a_file_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import json as arrow_json

    path, kinds = write(tmp_path / "t.jsonl"), {"id": Kind.TEXT, "score": Kind.NUMBER, "cluster": Kind.TEXT}
    fast = read_columns(path, kinds)

    def refuse(*_: Any, **__: Any) -> None:
        raise pa.ArrowInvalid("no")

    monkeypatch.setattr(arrow_json, "read_json", refuse)
    slow = read_columns(path, kinds)
    assert fast.keys() == slow.keys() == kinds.keys()
    assert all(np.array_equal(fast[name], slow[name]) for name in kinds)


def test_another_column_can_hold_the_score(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [{"id": 1, "rouge": 0.5}, {"id": 2, "rouge": 0.75}])
    (task,) = tasks(path, "rouge").values()
    assert (task.metric, task.scores.tolist()) == ("rouge", [0.5, 0.75])


def test_one_floor_for_all_and_floors_of_items(tmp_path: Path) -> None:
    one = write(tmp_path / "one.csv", [{"id": k, "score": 1, "floor": 0.25} for k in range(3)])
    own = write(tmp_path / "own.csv", [{"id": k, "score": 1, "floor": k / 10} for k in range(3)])
    (task,) = tasks(one).values()
    assert (task.floor, task.floors, task.floor_source) == (0.25, None, "the column 'floor'")
    (task,) = tasks(own).values()
    assert task.floors is not None and task.floors.tolist() == [0.0, 0.1, 0.2]


def test_repeats_are_averaged_by_item(tmp_path: Path) -> None:
    rows = [{"id": k % 2, "epoch": k // 2, "score": int(k in (0, 1, 2)), "cluster": f"c{k % 2}"} for k in range(4)]
    (task,) = tasks(write(tmp_path / "t.jsonl", rows)).values()
    assert (task.ids, task.scores.tolist(), task.clusters) == (["0", "1"], [1.0, 0.5], ["c0", "c1"])


def test_repeats_of_another_document_are_refused(tmp_path: Path) -> None:
    rows = [{"id": 1, "epoch": k, "score": 1, "hash": "xy"[k]} for k in range(2)]
    with pytest.raises(AuditError, match="repeats of 1 items of all differ in their hash"):
        tasks(write(tmp_path / "t.jsonl", rows))
