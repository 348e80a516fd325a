"""Which metric of a task scores a document, and what the harness's group of tasks says about their mean.

chosen_metric("arc_easy", task, "")                            # DocumentMetric("acc", "none")
chosen_metric("gsm8k", task, "exact_match,flexible-extract")   # a metric and a filter, as the harness writes them

A metric is offered if it is a number between 0 and 1 for each document, better the higher it is, and the score of the
task is its mean over the documents. Others are refused by name.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from audit.abilities.lm_eval.tasks import HarnessTask, LoadedTasks
from audit.errors import AuditError


class DocumentMetric(NamedTuple):
    """A metric with a value for each document, after the filter of this name."""

    metric: str
    filter: str

    def __str__(self) -> str:
        return self.metric if self.filter == "none" else f"{self.metric},{self.filter}"


def chosen_metric(text: str, loaded: LoadedTasks, asked: str) -> DocumentMetric:
    """The metric `asked` for, "metric" or "metric,filter", or else the first that is offered; of a group, the group's.

    Raises:
        AuditError: there is none, or it is refused; `text` names the task in the message.
    """
    wanted, _, filter_name = asked.partition(",")
    first = loaded.tasks[0]
    if loaded.group is not None:
        wanted, filter_name = _of_group(text, loaded, wanted, filter_name)
    filter_name = filter_name or first.filters[0]
    for task in loaded.tasks:
        if filter_name not in task.filters:
            raise AuditError(
                f"{text}: {task.name} has no filter {filter_name!r}; give one of {', '.join(task.filters)}."
            )
        offered, refused = _metrics(task, filter_name)
        wanted = wanted or next(iter(offered), "")
        if wanted not in offered:
            raise _refusal(text, task, wanted, offered, refused)
    return DocumentMetric(wanted, filter_name)


def score_of(value: Any, what: str) -> float:
    """The value of a metric as a score; NaN is 0. `what` names metric and document in the error.

    Raises:
        AuditError: it is no number, or not between 0 and 1.
    """
    if not _is_number(value):
        raise AuditError(f"{what} is {value!r}, which is no number; choose another metric with lm-eval:TASK:METRIC.")
    score = float(value)
    if math.isnan(score):
        return 0.0
    if not 0 <= score <= 1:
        raise AuditError(
            f"{what} is {score:g}, and a score is between 0 and 1; choose another metric with lm-eval:TASK:METRIC."
        )
    return score


def _metrics(task: HarnessTask, filter_name: str) -> tuple[list[str], dict[str, str]]:
    """The metrics that can be judged, and why others cannot, from the first document with its right answer."""
    values = task.metrics(0, filter_name, _plausible_results(task))
    better, aggregation = task.task.higher_is_better(), task.task.aggregation()
    offered, refused = [], {}
    for name, value in values.items():
        mean = aggregation.get(name)
        if better.get(name, True) is False:
            refused[name] = "is better the lower it is"
        elif not _is_number(value):
            refused[name] = "has no number for each document, only one for the whole task"
        elif mean is not None and getattr(mean, "__name__", "") != "mean":
            refused[name] = "is not the mean over the documents"
        elif not 0 <= float(value) <= 1:
            refused[name] = f"is not between 0 and 1 (it is {float(value):g} for a right answer)"
        else:
            offered.append(name)
    return offered, refused


def _plausible_results(task: HarnessTask) -> list[Any]:
    """Results of the first document's requests as a model gives them: its right answer, or falling log-likelihoods."""
    requests = task.documents[0]
    if task.kind == "generate_until":
        return [task.golds(0)[0]] * len(requests)
    if task.kind == "loglikelihood_rolling":
        return [-1.0] * len(requests)
    return [(-1.0 - place, False) for place in range(len(requests))]


def _of_group(text: str, loaded: LoadedTasks, wanted: str, filter_name: str) -> tuple[str, str]:
    """The metric and the filter of a group.

    Raises:
        AuditError: the group has no mean over all documents of its tasks, or not of this metric.
    """
    means = list(loaded.group.aggregate_metric_list or ())
    names = [one.metric for one in means if one.weight_by_size and one.aggregation == "mean"]
    if (wanted or (means[0].metric if means else "")) not in names:
        tasks = ", ".join(f"lm-eval:{task.name}" for task in loaded.tasks)
        raise AuditError(
            f"{text}: the group {loaded.name} has no mean of {wanted or 'a metric'} over all documents in the harness; "
            f"give its tasks, each with --ability: {tasks}."
        )
    chosen = next(one for one in means if one.metric == (wanted or names[0]) and one.weight_by_size)
    return chosen.metric, filter_name or next(iter(chosen.filter_list or ()), "")


def _refusal(text: str, task: HarnessTask, wanted: str, offered: Sequence[str], refused: dict[str, str]) -> AuditError:
    if wanted and wanted not in refused:
        what = f"{text}: {task.name} has no metric {wanted!r}"
    else:
        which = [wanted] if wanted else list(refused)
        what = f"{text}: " + _listed(f"{name} {refused[name]}" for name in which)
    remedy = f"give one of {', '.join(offered)} as lm-eval:TASK:METRIC" if offered else "choose another task"
    return AuditError(f"{what or text}; {remedy}.")


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "it has no metric"


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | np.number | np.bool_)
