"""Samples that lm-evaluation-harness wrote (see data/README.md)."""

import json
import shutil
from pathlib import Path

import pytest

from audit.errors import AuditError
from audit.workflows.results.choices import Choices
from audit.workflows.results.harness import outermost_groups
from audit.workflows.results.origin import read_results
from audit.workflows.results.task_scores import ModelScores, TaskScores, in_groups

DATA = Path(__file__).parent / "data"


def read(folder: Path, by_task: bool = False, **metrics: str) -> ModelScores:
    named = {name.replace("every", ""): metric for name, metric in metrics.items()}
    return read_results(folder, Choices(named, by_task), edited=False)


def aggregate(folder: Path, task: str, key: str) -> float:
    (file,) = folder.glob("results_*.json")
    found: float = json.loads(file.read_text(encoding="utf-8"))["results"][task][key]
    return found


def task_of(model: ModelScores, name: str) -> TaskScores:
    return next(task for task in model.tasks if task.task == name)


@pytest.mark.parametrize("model", ["base", "edited"])
@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("towns", "acc"),
        ("rivers", "acc_norm"),
        ("sums", "exact_match,strict-match"),
        ("sums", "exact_match,flexible-extract"),
    ],
)
def test_the_mean_is_that_of_the_harness(model: str, task: str, metric: str) -> None:
    folder = DATA / "lm_eval" / model
    found = task_of(
        read(folder, every="acc", **{task: metric, **({} if task == "sums" else {"sums": "exact_match"})}), task
    )
    assert found.metric == metric
    assert found.scores.mean() == aggregate(folder, task, metric if "," in metric else f"{metric},none")
    assert found.content.keys() == {"document", "prompt", "target"}


def test_defaults_are_the_first_metric_and_filter() -> None:
    model = read(DATA / "lm_eval" / "base")
    assert {task.task: task.metric for task in model.tasks} == {
        "rivers": "acc",
        "sums": "exact_match,strict-match",
        "towns": "acc",
    }
    sums = task_of(model, "sums")
    assert sums.texts is not None and sums.golds is not None
    assert (sums.texts[3], sums.golds[3]) == ("5", "5")


def test_the_floor_is_the_best_constant_answer() -> None:
    model = read(DATA / "lm_eval" / "base")
    floors = {task.task: (task.floor, task.floor_source) for task in model.tasks}
    assert floors["towns"][0] == pytest.approx(1 / 3)
    assert floors["rivers"] == (0.5, "the most frequent target")  # of three choices, only two are ever right
    assert floors["sums"][0] == pytest.approx(1 / 12)


def test_a_group_is_one_ability() -> None:
    model = read(DATA / "lm_eval" / "edited")
    assert model.groups == {"towns": "places", "rivers": "places"}
    places, sums = sorted(in_groups(model, model.groups), key=lambda task: task.task)
    assert (places.task, len(places.ids), sums.task) == ("places", 24, "sums")
    assert places.scores.mean() == aggregate(DATA / "lm_eval" / "edited", "places", "acc,none")
    assert places.floor == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert {name.split("/")[0] for name in places.ids} == {"towns", "rivers"}
    assert read(DATA / "lm_eval" / "edited", by_task=True).groups == {}


def test_groups_of_groups_belong_to_the_outermost() -> None:
    subtasks = {"mmlu": ["stem", "arts"], "stem": ["physics"], "arts": ["law"], "gsm8k": [], "physics": []}
    assert outermost_groups(subtasks) == {"physics": "mmlu", "law": "mmlu"}
    assert outermost_groups({"a": ["b"], "b": ["a"]}) == {}


def test_one_file_without_its_aggregates_is_enough(tmp_path: Path) -> None:
    (file,) = (DATA / "lm_eval" / "base").glob("samples_towns_*")
    shutil.copy(file, tmp_path)
    (task,) = read(tmp_path / file.name).tasks
    assert task.task == "towns" and read(tmp_path).groups == {}


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        ({}, "the metric word_perplexity is better the lower it is"),
        ({"every": "bits_per_byte"}, "the metric bits_per_byte is better the lower it is"),
    ],
)
def test_metrics_without_a_score_by_document_are_refused_by_name(metrics: dict[str, str], sentence: str) -> None:
    with pytest.raises(AuditError, match=sentence):
        read(DATA / "lm_eval_tales", **metrics)


def test_a_metric_of_the_whole_task_is_refused_by_name(tmp_path: Path) -> None:
    row = {"doc_id": 0, "filter": "none", "metrics": ["f1", "acc"], "f1": [1, 0], "acc": 1.0}
    (tmp_path / "samples_x.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (task,) = read(tmp_path).tasks
    assert task.metric == "acc"
    with pytest.raises(AuditError, match="the metric f1 has no number for each document, only one for the whole task"):
        read(tmp_path, x="f1")
    with pytest.raises(
        AuditError, match=r"x has no metric 'bcc'; give one of acc with --metric x=\.\.\. \(did you mean"
    ):
        read(tmp_path, x="bcc")


def test_two_evaluations_in_a_folder_are_refused(tmp_path: Path) -> None:
    (file,) = (DATA / "lm_eval" / "base").glob("samples_towns_*")
    shutil.copy(file, tmp_path)
    shutil.copy(file, tmp_path / file.name.replace("2026", "2025"))
    with pytest.raises(AuditError, match="1 tasks have several files of samples \\('towns'\\)"):
        read(tmp_path)
