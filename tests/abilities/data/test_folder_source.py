"""A folder of data files: JSON Lines or Parquet, training splits, and errors of one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from audit.abilities import ABILITIES, load_ability
from audit.abilities.data.sources import FolderSource, items, source_of_data
from audit.errors import AuditError
from tests.abilities.data.hub_cache import LABELS, write_parquet
from tests.small_audit import abilities, write_lines

ROWS = abilities()


def refusal(folder: Path, name: str = "sentiment") -> str:
    with pytest.raises(AuditError) as caught:
        items(load_ability(name), FolderSource(folder), None, 0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ABILITIES)
def test_parquet_and_json_lines_give_the_same_items(tmp_path: Path, name: str) -> None:
    ability = load_ability(name)
    rows = ROWS[ability.data_name]
    (tmp_path / "lines").mkdir()
    write_lines(tmp_path / "lines" / f"{ability.data_name}.jsonl", rows)
    write_parquet(tmp_path / "table" / f"{ability.data_name}.parquet", ability.data_name, rows)
    lines, table = (items(ability, FolderSource(tmp_path / kind), 7, 3) for kind in ("lines", "table"))
    assert lines == table


def test_the_label_names_of_a_parquet_file_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LABELS, "sst2", {"label": ["positive", "negative"]})
    write_parquet(tmp_path / "sst2.parquet", "sst2", ROWS["sst2"])
    assert [row["label"] for row in FolderSource(tmp_path).rows("sentiment")] == ["positive", "negative"] * 6


def test_a_hidden_label_of_a_parquet_file_is_refused_by_row(tmp_path: Path) -> None:
    write_parquet(tmp_path / "sst2.parquet", "sst2", [{**ROWS["sst2"][0], "label": -1}])
    said = refusal(tmp_path)
    assert said.startswith(f"{tmp_path / 'sst2.parquet'}: row sentiment/0 has -1 in column 'label'")
    assert "test splits often hide their labels" in said


def test_the_training_split_is_a_file_of_its_own(tmp_path: Path) -> None:
    write_lines(tmp_path / "sst2.jsonl", ROWS["sst2"][:4])
    source = FolderSource(tmp_path)
    with pytest.raises(AuditError, match=r"has no sst2\.train\.jsonl or sst2\.train\.parquet for sentiment; put one"):
        source.training_rows("sentiment")
    write_parquet(tmp_path / "sst2.train.parquet", "sst2", ROWS["sst2"][4:])
    assert len(source.training_rows("sentiment")) == 8
    assert len(source.rows("sentiment")) == 4


def test_two_files_of_one_data_set_are_refused(tmp_path: Path) -> None:
    write_lines(tmp_path / "sst2.jsonl", ROWS["sst2"])
    write_parquet(tmp_path / "sst2.parquet", "sst2", ROWS["sst2"])
    assert refusal(tmp_path) == f"{tmp_path} has both sst2.jsonl and sst2.parquet; keep one of the two"


def test_a_missing_file_names_ability_and_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} has no sst2.jsonl or sst2.parquet for sentiment; put one there"


@pytest.mark.parametrize("content", [b"", b"PAR1 it is not", b'{"sentence": "x"}'])
def test_an_invalid_parquet_file_gives_an_error_of_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sst2.parquet").write_bytes(content)
    said = refusal(tmp_path)
    assert said.startswith(f"cannot read {tmp_path / 'sst2.parquet'} for sentiment (")
    assert said.endswith("put a Parquet file there")


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("sentiment", {"label": None}, "row sentiment/2 has None in column 'label'"),
        ("sentiment", {"sentence": " "}, "row sentiment/2 has ' ' in column 'sentence'"),
        ("open_qa", {"answer": []}, "row open_qa/2 has [] in column 'answer'"),
        ("summarization", {"summary": ""}, "row summarization/2 has '' in column 'summary'"),
        ("reasoning", {"answer": "it is 7"}, "row reasoning/2 has 'it is 7' at the end of column 'answer'"),
        ("dialogue", {"answers": " "}, "row dialogue/2 has ' ' in column 'answers'"),
        ("ner", {"ner_tags": [0]}, "row ner/2 has 6 tokens and 1 ner_tags"),
    ],
)
def test_an_empty_answer_names_file_ability_and_row(
    tmp_path: Path, name: str, change: dict[str, Any], complaint: str
) -> None:
    data_name = load_ability(name).data_name
    rows = [{**row, **change} if number == 2 else row for number, row in enumerate(ROWS[data_name])]
    write_lines(tmp_path / f"{data_name}.jsonl", rows)
    assert refusal(tmp_path, name).startswith(f"{tmp_path / data_name}.jsonl: {complaint}")


def test_a_missing_column_names_file_ability_and_row(tmp_path: Path) -> None:
    rows = [dict(row) for row in ROWS["rte"]]
    del rows[3]["sentence2"]
    write_lines(tmp_path / "rte.jsonl", rows)
    assert refusal(tmp_path, "nli").startswith(f"{tmp_path / 'rte.jsonl'}: row nli/3 has no column 'sentence2'")


def test_the_content_of_a_file_is_part_of_its_origin(tmp_path: Path) -> None:
    source = FolderSource(tmp_path)
    assert source.origin("sentiment").revision is None
    write_lines(tmp_path / "sst2.jsonl", ROWS["sst2"])
    before = source.origin("sentiment")
    assert before.place == str(tmp_path / "sst2.jsonl")
    write_lines(tmp_path / "sst2.jsonl", ROWS["sst2"][1:])
    after = source.origin("sentiment")
    assert before.revision and after.revision and before.revision != after.revision


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda folder: None, "there is no such folder; give pocket, hub or a folder of data files."),
        (lambda folder: folder.write_text("x"), "that is a file; give pocket, hub or a folder of data files."),
        (
            lambda folder: folder.mkdir(),
            "the folder contains no .jsonl or .parquet file named gsm8k, rte, nq_open, boolq, mutual, samsum, ",
        ),
    ],
)
def test_a_folder_without_data_files_is_refused_at_once(tmp_path: Path, make: Any, complaint: str) -> None:
    folder = tmp_path / "hubb"
    make(folder)
    with pytest.raises(AuditError) as caught:
        source_of_data(str(folder)).check()
    assert str(caught.value).startswith(f"--data {folder}: {complaint}")


def test_one_file_is_enough(tmp_path: Path) -> None:
    (tmp_path / "rte.jsonl").write_text(json.dumps(ROWS["rte"][0]), encoding="utf-8")
    FolderSource(tmp_path).check()
