"""What a user chooses when results are read: the metric of each task, and whether groups stay apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from audit.errors import AuditError
from audit.settings.values import suggestion


@dataclass(frozen=True)
class Choices:
    """`metrics` by task, under "" that of every other; `by_task` keeps the tasks of a group apart."""

    metrics: Mapping[str, str] = field(default_factory=dict)
    by_task: bool = False

    def metric_of(self, task: str) -> str | None:
        """The metric that was asked for; None for the default."""
        return self.metrics.get(task, self.metrics.get(""))


def chosen_metric(origin: str, task: str, offered: Sequence[str], refused: Mapping[str, str], choices: Choices) -> str:
    """The metric of a task: the one that was asked for, else the first with a number for every item.

    `refused` says of other metrics why they cannot be used.

    Raises:
        AuditError: there is no such metric, or none at all.
    """
    wanted = choices.metric_of(task)
    remedy = f"give one of {', '.join(offered)}" if offered else "bring results with another metric"
    if wanted in refused or not offered:
        name = wanted if wanted in refused else next(iter(refused), None)
        reason = f"the metric {name} {refused[name]}" if name is not None else "there is no metric"
        raise AuditError(f"{origin}: {task}: {reason}; {remedy}.")
    if wanted is None:
        return offered[0]
    if wanted not in offered:
        close = suggestion(wanted, offered)
        raise AuditError(f"{origin}: {task} has no metric {wanted!r}; {remedy} with --metric {task}=...{close}.")
    return wanted
