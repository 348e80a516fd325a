"""Samples of lm-evaluation-harness (`--log_samples`): `samples_TASK_DATE.jsonl` beside `results_DATE.json`.

A line is one document under one filter, with a number for each metric that has one by document, and the hashes of the
document, the prompt and the target. The file of aggregates, if it is there, names the groups of tasks and the metrics
of which less is better. https://github.com/EleutherAI/lm-evaluation-harness, lm_eval/loggers/evaluation_tracker.py.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audit.errors import AuditError
from audit.store.files import read_json
from audit.workflows.results.choices import Choices, chosen_metric
from audit.workflows.results.columns import Columns, Kind, first_row, read_columns
from audit.workflows.results.task_scores import TaskScores, checked, listed

NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)")
HASHES = {"document": "doc_hash", "prompt": "prompt_hash", "target": "target_hash"}
RIGHT_OR_WRONG = ("acc", "acc_norm", "acc_mutual_info", "exact_match", "em")  # the best constant answer is their floor
LESS_IS_BETTER = (
    "brier_score",
    "perplexity",
    "word_perplexity",
    "byte_perplexity",
    "bits_per_byte",
    "ter",
    "likelihood_diff",
)


@dataclass(frozen=True)
class Aggregates:
    """What `results_DATE.json` says: the outermost group of each task, and the metrics of which less is better."""

    groups: Mapping[str, str] = field(default_factory=dict)
    less_is_better: frozenset[tuple[str, str]] = frozenset()


def is_samples(row: Mapping[str, Any]) -> bool:
    """Whether the first row of a JSONL file is a sample of the harness."""
    return "doc_id" in row and ("metrics" in row or "doc" in row or "filtered_resps" in row)


def task_name(path: Path) -> str:
    """The task in the name of a file of samples."""
    found = NAME.fullmatch(path.stem)
    return found["task"] if found else path.stem.removeprefix("samples_")


def read_aggregates(path: Path) -> Aggregates:
    """The aggregates beside a file of samples; nothing is known where they are not there.

    Raises:
        AuditError: the file is there and cannot be read.
    """
    found = NAME.fullmatch(path.stem)
    file = path.with_name(f"results_{found['date']}.json") if found else None
    if file is None or not file.is_file():
        return Aggregates()
    try:
        document = read_json(file)
        subtasks, better = document.get("group_subtasks") or {}, document.get("higher_is_better") or {}
        return Aggregates(
            outermost_groups(subtasks),
            frozenset((task, metric) for task, one in better.items() for metric, more in one.items() if more is False),
        )
    except (OSError, ValueError, AttributeError, TypeError):
        raise AuditError(f"{file}: is no results file of lm-evaluation-harness; remove or mend it.") from None


def outermost_groups(subtasks: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The outermost group of each task. `subtasks` has the members of a group, which may be groups; [] for a task."""
    above = {member: group for group, members in subtasks.items() for member in members}
    found: dict[str, str] = {}
    for task in above.keys() - {group for group, members in subtasks.items() if members}:
        top, seen = task, {task}
        while top in above and above[top] not in seen:
            top = above[top]
            seen.add(top)
        found[task] = top
    return found


def samples_task(path: Path, choices: Choices, aggregates: Aggregates) -> TaskScores:
    """The task in a file of samples.

    Raises:
        AuditError: a line is not one of a sample; a metric has no number by document, or less of it is better; a
            document has several samples.
    """
    task, first = task_name(path), first_row(path)
    if not is_samples(first):
        raise AuditError(f"{path}: its first line is no sample of lm-evaluation-harness; write it with --log_samples.")
    metric, filter_name = _metric(path, task, first, choices, aggregates)
    said = _kind_of_answers(first)
    kinds = {"doc_id": Kind.TEXT, "filter": Kind.TEXT, "target": Kind.TEXT, metric: Kind.NUMBER}
    kinds |= {column: Kind.TEXT for column in HASHES.values()} | ({"filtered_resps": said} if said else {})
    columns = read_columns(path, kinds)
    columns, filter_name = _of_one_filter(path, task, columns, filter_name)
    for name in ("doc_id", metric):
        if name not in columns or None in (columns[name] if name == "doc_id" else ()):
            raise AuditError(f"{path}: samples of {task} have no {name!r}; write them again with --log_samples.")
    floor, source = _floor(metric, columns, said)
    texts = columns.get("filtered_resps") if said is Kind.TEXTS else None
    found = TaskScores(
        task=task,
        metric=metric if filter_name in (None, "none") else f"{metric},{filter_name}",
        protocol="lm-eval",
        ids=columns["doc_id"],
        scores=columns[metric],
        content={part: columns[column] for part, column in HASHES.items() if column in columns},
        floor=floor,
        floor_source=source,
        texts=None if texts is None else [(one or [""])[0] or "" for one in texts],
        golds=[gold or "" for gold in columns["target"]] if "target" in columns else None,
    )
    return checked(found, str(path))


def _metric(
    path: Path, task: str, first: Mapping[str, Any], choices: Choices, aggregates: Aggregates
) -> tuple[str, str | None]:
    """The metric and, if it was asked for, the filter: "exact_match,strict-match"."""
    names = first.get("metrics")
    if not isinstance(names, list):  # versions before 0.4.3 do not name them; they are the last of the columns
        kept = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", *HASHES.values())
        names = [name for name in first if name not in kept]
    offered, refused = [], {}
    for name in map(str, names):
        value = first.get(name)
        if (task, name) in aggregates.less_is_better or name in LESS_IS_BETTER:
            refused[name] = "is better the lower it is, and scores here are better the higher they are"
        elif not isinstance(value, int | float):
            refused[name] = "has no number for each document, only one for the whole task"
        else:
            offered.append(name)
    wanted, _, filter_name = (choices.metric_of(task) or "").partition(",")
    asked = Choices({"": wanted}) if wanted else Choices()
    return chosen_metric(str(path), task, offered, refused, asked), filter_name or None


def _of_one_filter(path: Path, task: str, columns: Columns, wanted: str | None) -> tuple[Columns, str | None]:
    """The rows of one filter, by default the first in the file, and its name."""
    filters = columns.get("filter")
    if filters is None:
        return columns, None
    there = list(dict.fromkeys(filters))
    name = wanted or there[0]
    if name not in there:
        raise AuditError(f"{path}: {task} has no filter {wanted!r}; give one of {', '.join(map(str, there))}.")
    if len(there) == 1:
        return columns, name
    rows = [k for k, one in enumerate(filters) if one == name]
    kept = {
        column: values[rows] if isinstance(values, np.ndarray) else [values[k] for k in rows]
        for column, values in columns.items()
    }
    return kept, name


def _kind_of_answers(first: Mapping[str, Any]) -> Kind | None:
    """How the first sample holds its answers: as texts, or as the log-likelihood of each choice."""
    answers = first.get("filtered_resps")
    if isinstance(answers, list) and answers:
        if all(isinstance(one, str) for one in answers):
            return Kind.TEXTS
        if all(isinstance(one, list) and all(isinstance(part, str) for part in one) for one in answers):
            return Kind.PAIRS
    return None


def _floor(metric: str, columns: Columns, said: Kind | None) -> tuple[float, str]:
    """The score of the best constant answer, where a document is right or wrong; else 0, from nowhere."""
    targets = columns.get("target")
    if metric not in RIGHT_OR_WRONG or targets is None or not np.isin(columns[metric], (0, 1)).all():
        return 0.0, ""
    constant = Counter(targets).most_common(1)[0][1] / len(targets)
    choices = [len(one) for one in columns.get("filtered_resps", ()) if one] if said is Kind.PAIRS else []
    chance = sum(1 / number for number in choices) / len(choices) if choices and min(choices) > 1 else 0.0
    return max(constant, chance), "the most frequent target" if constant >= chance else "chance among the choices"


def latest_only(paths: Sequence[Path], folder: Path) -> Sequence[Path]:
    """The files of samples of a folder, if no task has two.

    Raises:
        AuditError: a task was evaluated twice.
    """
    twice = [task for task, number in Counter(map(task_name, paths)).items() if number > 1]
    if twice:
        raise AuditError(
            f"{folder}: {len(twice)} tasks have several files of samples ({listed(twice)}); leave one of each, or "
            "give a folder of one evaluation."
        )
    return paths
