"""Verdicts on results that exist: the scores of one model against those of others, item by item, without any model.

base, edited = (read_results(path, Choices(), edited=k > 0) for k, path in enumerate(paths))
found = compared(base, [edited], Terms())
write_report(found.report, "reports", found.item_lines())
"""

import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from audit.errors import AuditError
from audit.reports.rows import AbilityRow, RunHeader, RunReport
from audit.settings.options import DEFAULT_KEEP, DEFAULT_MARGIN
from audit.settings.values import suggestion, written
from audit.store import PACKAGE, versions
from audit.store.content import content_fingerprint
from audit.verdicts.margins import Margin, margin_of
from audit.workflows.comparison_rows import changed_items, item_lines, row_of_pair
from audit.workflows.results.pairs import Pair, paired
from audit.workflows.results.task_scores import ModelScores, TaskScores, in_groups, listed

SHOWN_METRICS = 6


@dataclass(frozen=True)
class Terms:
    """What verdicts are judged by. `margins` and `floors` are by task, under "" those of every other task.

    `allow_missing` drops items that not both models have.
    """

    margins: Mapping[str, Margin] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    allow_missing: bool = False

    def margin_of(self, pair: Pair) -> Margin:
        """The margin of a task: the one that was given, else that of the run in question, else the suites' own."""
        given, row = self.margins.get(pair.base.task, self.margins.get("")), pair.edited.run
        if given is not None:
            return given
        if row is not None:
            return margin_of(row.asked_margin or row.verdict.margin)
        return margin_of(DEFAULT_KEEP if pair.scores.floors is not None else DEFAULT_MARGIN)

    def floored(self, task: TaskScores) -> TaskScores:
        """The task with the floor that was given, which also replaces the floors of its items."""
        floor = self.floors.get(task.task, self.floors.get(""))
        return task if floor is None else replace(task, floor=floor, floors=None, floor_source="--floor")


@dataclass(frozen=True, eq=False)
class Comparison:
    """The report with items that changed, and what all are written from: the pairs by the names of their rows."""

    report: RunReport
    pairs: Mapping[str, Pair]

    def item_lines(self) -> Iterator[str]:
        """The lines of `items.jsonl`, as `audit.reports.json_report` reads them."""
        for name, pair in self.pairs.items():
            yield from item_lines(pair, name)


def compared(base: ModelScores, others: Sequence[ModelScores], terms: Terms, *, trend: bool = False) -> Comparison:
    """Judge every task of `others` against the same task of `base`; with `trend`, also against the model before.

    Raises:
        AuditError: items or tasks do not match, or a margin or a floor is for a task that is not there.
    """
    start = time.perf_counter()
    groups = {task: group for model in (base, *others) for task, group in model.groups.items()}
    models = [in_groups(model, groups) for model in (base, *others)]
    labels = _labels([model.origin for model in (base, *others)])
    _require_tasks(terms, {task.task for tasks in models for task in tasks})
    rows: list[AbilityRow] = []
    steps: list[AbilityRow] = []
    pairs: dict[str, Pair] = {}
    caveats = [note for model in (base, *others) for note in model.notes]
    for k, tasks in enumerate(models[1:], start=1):
        model = labels[k] if len(others) > 1 else ""
        names = base.origin, others[k - 1].origin
        for one, other in _in_both(models[0], tasks, names, caveats, allow_missing=terms.allow_missing):
            pair = paired(terms.floored(one), other, names, allow_missing=terms.allow_missing)
            name = f"{one.task} of {model}" if model else one.task
            rows.append(row_of_pair(pair, name, model, terms.margin_of(pair)))
            pairs[name] = pair
            caveats += _caveats(pair, names)
        if trend and k > 1:
            names = others[k - 2].origin, others[k - 1].origin
            for one, other in _in_both(models[k - 1], tasks, names, [], allow_missing=terms.allow_missing):
                pair = paired(terms.floored(one), other, names, allow_missing=terms.allow_missing)
                name = f"{one.task} of {model} since {labels[k - 1]}"
                steps.append(row_of_pair(pair, name, model, terms.margin_of(pair)))
    seed = next((pair.edited.seed for pair in pairs.values()), 0)
    header = RunHeader(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        model=base.origin,
        revision=None,
        editor=others[0].origin if len(others) == 1 else f"{len(others)} models",
        edits="",
        plan=f"{_metrics(pairs)}; {sum(len(pair.base.ids) for pair in pairs.values())} items, paired by id",
        edit_count=0,
        device="",
        dtype="",
        seed=seed,
        limit=0,
        data="results",
        compared=True,
        result_caveats=tuple(dict.fromkeys(caveats)),
    )
    report = RunReport(
        header=header,
        abilities=tuple(rows),
        seconds={"verdicts": time.perf_counter() - start},
        settings={
            "base": base.origin,
            "compared": [model.origin for model in others],
            "margins": written(terms.margins),
            "floors": dict(terms.floors),
            "allow_missing": terms.allow_missing,
            "trend": trend,
        },
        fingerprints={f"scores of {model.origin}": _fingerprint(model) for model in (base, *others)},
        versions={
            "python": platform.python_version(),
            **{name: one for name, one in versions().items() if name in ("numpy", PACKAGE)},
        },
        steps=tuple(steps),
        items=tuple(item for name, pair in pairs.items() for item in changed_items(pair, name)),
    )
    return Comparison(report, pairs)


def _in_both(
    ours: Sequence[TaskScores],
    theirs: Sequence[TaskScores],
    names: tuple[str, str],
    caveats: list[str],
    *,
    allow_missing: bool,
) -> Iterable[tuple[TaskScores, TaskScores]]:
    """The tasks that both models have, in the order of the first; what is left out is added to the caveats."""
    first, second = ({task.task: task for task in tasks} for tasks in (ours, theirs))
    both = [name for name in first if name in second]
    if not both:
        raise AuditError(
            f"{names[0]} and {names[1]} have no task in common ({listed(first)} and {listed(second)}); give results of "
            "the same tasks."
        )
    for one, other, (name, lacking) in ((first, second, names), (second, first, names[::-1])):
        lost = [task for task in one if task not in other]
        if lost and not allow_missing:
            raise AuditError(
                f"{len(lost)} tasks of {name} are not in {lacking} ({listed(lost)}); evaluate both models on the same "
                "tasks, or leave these out with --allow-missing."
            )
        if lost:
            caveats.append(f"{len(lost)} tasks of {name} are not in {lacking} and were left out: {', '.join(lost)}.")
    return [(first[name], second[name]) for name in both]


def _caveats(pair: Pair, names: tuple[str, str]) -> list[str]:
    task, found = pair.base, []
    if any(pair.missing):
        found.append(
            f"{task.task}: {pair.missing[0]} items of {names[0]} and {pair.missing[1]} of {names[1]} were dropped, "
            "because the other has no score for them."
        )
    if not task.floor_source:
        found.append(
            f"{task.task}: no floor is known, so 0 is taken; give the score of a model that cannot do it with --floor."
        )
    if not task.content:
        found.append(f"{task.task}: the items were paired by their ids alone, since the file has no hash of them.")
    return found


def _metrics(pairs: Mapping[str, Pair]) -> str:
    """The metric of every task: "metric acc", or "metrics acc (nli), exact_match (gsm8k)"."""
    tasks: dict[str, list[str]] = {}
    for pair in pairs.values():
        named = tasks.setdefault(pair.base.metric, [])
        named += [] if pair.base.task in named else [pair.base.task]
    if len(tasks) == 1:
        return f"metric {next(iter(tasks))}"

    def shown(names: list[str]) -> str:
        return ", ".join(names[:SHOWN_METRICS]) + (", ..." if len(names) > SHOWN_METRICS else "")

    return "metrics " + ", ".join(f"{metric} ({shown(names)})" for metric, names in tasks.items())


def _labels(origins: Sequence[str]) -> list[str]:
    """Short names of the models, all different."""
    short = [Path(origin).stem if Path(origin).suffix else Path(origin).name for origin in origins]
    return short if len(set(short)) == len(short) else list(origins)


def _require_tasks(terms: Terms, tasks: "set[str]") -> None:
    for flag, named in (("--margin", terms.margins), ("--floor", terms.floors)):
        for name in named:
            if name and name not in tasks:
                raise AuditError(
                    f"{flag} {name}={named[name]}: there are no results of {name!r}; give one of "
                    f"{', '.join(sorted(tasks))}{suggestion(name, tasks)}."
                )


def _fingerprint(model: ModelScores) -> str:
    return content_fingerprint([[task.task, task.metric, list(task.ids), task.scores.tolist()] for task in model.tasks])
