"""Rows and their lines, in both layouts."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.edits.rows import read_rows, shown
from audit.errors import AuditError


def write(folder: Path, text: str) -> Path:
    path = folder / "rows.json"
    path.write_bytes(text.encode("utf-8"))
    return path


def test_line_numbers_count_blank_lines_and_windows_line_ends(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path, '\r\n{"a": 1}\r\n\r\n{"a": 2}\r\n'))
    assert [(row.line, row.values) for row in rows] == [(2, {"a": 1}), (4, {"a": 2})]


def test_objects_of_an_array_have_line_numbers(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path, '[\n  {"a":\n 1},\n\n  {"a": 2}, {"a": 3}\n]\n'))
    assert [(row.line, row.values["a"]) for row in rows] == [(2, 1), (5, 2), (5, 3)]


def test_one_object_may_span_several_lines(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path, '\n{\n "a": 1\n}\n'))
    assert row.values == {"a": 1}


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, '\ufeff{"a": 1}'))[0].values == {"a": 1}


def test_line_separators_inside_a_text_do_not_end_a_row(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path, '{"a": "x\u2028y\x85z"}\n'))
    assert row.text("a") == "x\u2028y\x85z"


def test_paths_of_nested_fields_are_named_in_full(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path, '{"a": {"b": [{"c": 3}]}}'))
    with pytest.raises(AuditError, match=r"line 1, field 'a\.b\[0\]\.c': is a number \(3\), not text"):
        row.inside("a").objects("b")[0].text("c")


@pytest.mark.parametrize("value", ["x\ny", "\u2028", {"a": "\n"}, ["é"], "\ud800", None, 10**50, "w" * 500])
def test_shown_values_fit_on_one_line(value: object) -> None:
    assert len(shown(value).splitlines()) == 1
    assert len(shown(value)) <= 60


documents = st.lists(
    st.dictionaries(st.text(max_size=4), st.text(max_size=8) | st.integers() | st.none(), max_size=3),
    min_size=1,
    max_size=5,
)


@given(documents, st.sampled_from([None, 1]))
def test_both_layouts_give_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], indent: int | None
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    as_array = read_rows(write(folder, json.dumps(rows, indent=indent)))
    as_lines = read_rows(write(folder, "\n".join(json.dumps(row) for row in rows)))
    assert [row.values for row in as_array] == [row.values for row in as_lines] == rows
    assert [row.line for row in as_lines] == list(range(1, len(rows) + 1))


@given(st.binary(max_size=40))
def test_any_bytes_give_rows_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("rows") / "noise.bin"
    path.write_bytes(content)
    try:
        assert read_rows(path)
    except AuditError as error:
        assert "noise.bin" in str(error)
        assert len(str(error).splitlines()) == 1
