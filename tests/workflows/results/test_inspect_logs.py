"""Logs that inspect_ai wrote (see data/README.md): zips packed by Zstandard and by Deflate, and JSON."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from audit.errors import AuditError
from audit.workflows.results.choices import Choices
from audit.workflows.results.inspect_logs import _member, inspect_task
from audit.workflows.results.origin import read_results
from audit.workflows.results.task_scores import TaskScores

DATA = Path(__file__).parent / "data"


def log(folder: str, task: str) -> Path:
    (file,) = (DATA / folder).glob(f"*_{task}_*")
    return file


def header(path: Path) -> dict[str, Any]:
    """The results that inspect_ai computed itself."""
    with zipfile.ZipFile(path) as archive:
        found: dict[str, Any] = json.loads(_member(archive, "header.json"))["results"]
    return found


def read(path: Path, metric: str | None = None) -> TaskScores:
    return inspect_task(path, Choices({} if metric is None else {"": metric}))[0]


def test_epochs_are_averaged_by_sample() -> None:
    found = read(log("inspect_eval/base", "sums"))
    assert (found.task, found.metric, found.protocol) == ("sums", "includes", "inspect")
    assert found.ids == [str(k) for k in range(8)]
    assert found.scores.mean() == header(log("inspect_eval/base", "sums"))["scores"][0]["metrics"]["accuracy"]["value"]
    assert set(found.scores) == {0.0, 0.5, 1.0}
    assert found.floor_source == "the most frequent target" and found.floor == 1 / 8
    assert found.golds is not None and found.golds[3] == "5"


def test_the_scorer_can_be_chosen() -> None:
    found = read(log("inspect_eval/base", "sums"), "f1")
    assert found.metric == "f1" and found.floor_source == ""
    with pytest.raises(AuditError, match="sums has no metric 'exact'; give one of includes, f1"):
        read(log("inspect_eval/base", "sums"), "exact")


@pytest.mark.parametrize("model", ["base", "edited"])
def test_all_kinds_of_log_hold_the_same(model: str) -> None:
    packed, plain, older = (
        read(log(f"{folder}/{model}", "towns")) for folder in ("inspect_eval", "inspect_json", "inspect_eval_0.3.69")
    )
    right = [1.0] * 8 if model == "base" else [float(k % 2 or k % 3 == 0) for k in range(8)]
    for one in (packed, plain, older):
        assert one.scores.tolist() == right
        assert (one.task, one.metric, one.ids) == ("towns", "choice", [f"town-{k}" for k in range(8)])
    assert packed.content == plain.content
    assert packed.floor == plain.floor == 3 / 8


def test_a_folder_holds_one_log_for_each_task() -> None:
    found = read_results(DATA / "inspect_eval" / "base", Choices(), edited=False)
    assert sorted(task.task for task in found.tasks) == ["sums", "towns"]


def log_of(path: Path, samples: list[dict[str, object]], status: str = "success") -> Path:
    path.write_text(json.dumps({"status": status, "eval": {"task": "t"}, "samples": samples}), encoding="utf-8")
    return path


def sample(number: int, value: object, **more: object) -> dict[str, object]:
    return {"id": number, "epoch": 1, "input": f"q{number}", "target": "a", "scores": {"s": {"value": value}}, **more}


def test_values_are_numbers_as_inspect_reads_them(tmp_path: Path) -> None:
    values = ["C", "I", "P", "N", True, False, 0.25, "0.75", "yes", "no"]
    found = read(log_of(tmp_path / "t.json", [sample(k, value) for k, value in enumerate(values)]))
    assert found.scores.tolist() == [1, 0, 0.5, 0, 1, 0, 0.25, 0.75, 1, 0]


def test_a_mapping_is_one_metric_for_each_key(tmp_path: Path) -> None:
    path = log_of(tmp_path / "t.json", [sample(k, {"fluent": 0.5, "right": "C"}) for k in range(2)])
    assert read(path, "s/right").scores.tolist() == [1, 1]
    with pytest.raises(
        AuditError, match="the metric s has several values for each sample; give one of s/fluent, s/right"
    ):
        read(path, "s")


def test_samples_without_a_score_count_as_missing(tmp_path: Path) -> None:
    path = log_of(tmp_path / "t.json", [sample(0, "C"), sample(1, "C", scores=None), sample(2, "I")])
    task, notes = inspect_task(path, Choices())
    assert task.ids == ["0", "2"]
    assert notes == (f"{path}: 1 samples of t have no score by s ('1') and count as missing.",)


@pytest.mark.parametrize("status", ["started", "cancelled", "error"])
def test_an_unfinished_log_is_refused(status: str, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=f"the status of this log is '{status}'"):
        read(log_of(tmp_path / "t.json", [sample(0, "C")], status))


def test_a_damaged_member_is_noticed(tmp_path: Path) -> None:
    source = log("inspect_eval/base", "towns")
    with zipfile.ZipFile(source) as archive:
        place = archive.getinfo("summaries.json").header_offset
    content = bytearray(source.read_bytes())
    content[place + 200] ^= 0xFF
    path = tmp_path / "t.eval"
    path.write_bytes(content)
    with pytest.raises(AuditError, match=r"t\.eval: is no log of inspect_ai \("):
        read(path)
