"""The scores of one model on the items of a task, checked; every reader of this room gives them in this form."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from audit.errors import AuditError
from audit.reports.rows import AbilityRow
from audit.verdicts.intervals import Floats

SHOWN_IDS = 3


@dataclass(frozen=True, eq=False)
class TaskScores:
    """One model's scores on one task, (n,) or n of everything, in the order of the file.

    protocol      the tool that asked: "lm-eval", "inspect", "table", or the protocol of a run of this project
    scores        in [0, 1]; `ids` are unique
    content       fingerprints of what an item is, by what they cover: "document", "prompt", "target"
    clusters      names of the items' sources; None if no two items share one
    floor         of the task; `floors` (n,) where each item has its own. `floor_source` says where it comes from, ""
                  if nowhere
    texts, golds  what the model said, and the right answer, where the file has them
    counts, odds, positives  as in `audit.answering.paired_answers.PairedScores`, of runs of this project
    run           the row of a run of this project, and `seed` its seed
    """

    task: str
    metric: str
    protocol: str
    ids: Sequence[str]
    scores: Floats
    content: Mapping[str, Sequence[str]] = field(default_factory=dict)
    clusters: Sequence[str] | None = None
    floor: float = 0.0
    floors: Floats | None = None
    floor_source: str = ""
    texts: Sequence[str] | None = None
    golds: Sequence[str] | None = None
    counts: Any = None
    odds: Any = None
    positives: Any = None
    run: AbilityRow | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class ModelScores:
    """All tasks of one model. `origin` is the file or folder, `groups` the group of each task that is in one.

    `notes` are sentences about what was left out.
    """

    origin: str
    tasks: tuple[TaskScores, ...]
    groups: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def listed(names: Iterable[str], count: int | None = None) -> str:
    """The first names in quotes: "'a', 'b', 'c', ..."."""
    found = list(names)
    more = ", ..." if (len(found) if count is None else count) > SHOWN_IDS else ""
    return ", ".join(map(repr, found[:SHOWN_IDS])) + more


def checked(found: TaskScores, origin: str, *, repeated: bool = False) -> TaskScores:
    """The same scores, if they are numbers from 0 to 1 with an id each; `repeated` ones are averaged by item.

    Raises:
        AuditError: there are none; or a score or floor is missing or out of range; or an id occurs twice.
    """
    ids, scores = found.ids, found.scores
    if not len(ids):
        raise AuditError(f"{origin}: there are no scores of {found.task}; give a file with at least one item.")
    for values, what in ((scores, found.metric), (found.floors, "floor")):
        if values is not None and not ((values >= 0) & (values <= 1)).all():
            bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
            value = values[bad[0]]
            said = f"no number as {what}" if np.isnan(value) else f"{what} {value:g}"
            others = f" ({len(bad)} items have no usable one)" if len(bad) > 1 else ""
            raise AuditError(
                f"{origin}: item {ids[int(bad[0])]!r} of {found.task} has {said}{others}; give a number from 0 to 1 "
                "for every item."
            )
    if len(set(ids)) == len(ids):
        return found
    if repeated:
        return _averaged(found, origin)
    twice = [name for name, number in _counted(ids).items() if number > 1]
    remedy = ", or number repeats in a column 'epoch'" if found.protocol == "table" else ""
    raise AuditError(
        f"{origin}: {len(twice)} items of {found.task} occur more than once ({listed(twice)}); keep one row for each "
        f"item{remedy}."
    )


def pooled(name: str, members: Sequence[TaskScores], origin: str) -> TaskScores:
    """One task from those of a group, in which every item counts once; ids are "task/id".

    Raises:
        AuditError: the tasks do not have the same metric.
    """
    metrics = sorted({one.metric for one in members})
    if len(metrics) > 1:
        raise AuditError(
            f"{origin}: the tasks of the group {name} have the metrics {', '.join(metrics)}; choose one that all have "
            "with --metric, or keep the tasks apart with --by-task."
        )

    def joined(part: str, prefix: bool = False) -> list[str] | None:
        columns = [getattr(one, part) for one in members]
        if any(column is None for column in columns):
            return None
        return [
            f"{one.task}/{x}" if prefix else x for one, column in zip(members, columns, strict=True) for x in column
        ]

    sizes = [len(one.ids) for one in members]
    parts = [part for part in members[0].content if all(part in one.content for one in members)]
    own = any(one.clusters is not None for one in members)
    filled = members if not own else [replace(one, clusters=one.clusters or one.ids) for one in members]
    return replace(
        members[0],
        task=name,
        ids=joined("ids", prefix=True) or [],
        scores=np.concatenate([one.scores for one in members]),
        content={part: [x for one in members for x in one.content[part]] for part in parts},
        clusters=[f"{one.task}/{x}" for one in filled for x in one.clusters or ()] if own else None,
        floor=float(np.average([one.floor for one in members], weights=sizes)),
        floor_source=members[0].floor_source if all(one.floor_source for one in members) else "",
        texts=joined("texts"),
        golds=joined("golds"),
    )


def in_groups(model: ModelScores, groups: Mapping[str, str]) -> tuple[TaskScores, ...]:
    """The tasks, with those of a group pooled into one; `groups` names the group of a task."""
    members: dict[str, list[TaskScores]] = {}
    for one in model.tasks:
        members.setdefault(groups.get(one.task, one.task), []).append(one)
    return tuple(
        pooled(name, ones, model.origin) if any(one.task in groups for one in ones) else ones[0]
        for name, ones in members.items()
    )


def _averaged(found: TaskScores, origin: str) -> TaskScores:
    """Repeats of an item as one, with their mean score; the item is its own cluster."""
    first: dict[str, int] = {}
    codes = np.array([first.setdefault(name, len(first)) for name in found.ids])
    place = np.unique(codes, return_index=True)[1]  # (items,) the first repeat of each
    for part, values in found.content.items():
        named: dict[str, str] = {}
        changed = [
            name for name, value in zip(found.ids, values, strict=True) if named.setdefault(name, value) != value
        ]
        if changed:
            raise AuditError(
                f"{origin}: repeats of {len(set(changed))} items of {found.task} differ in their {part} "
                f"({listed(dict.fromkeys(changed))}); give every item an id of its own."
            )

    def of_first(values: Sequence[str] | None) -> list[str] | None:
        return None if values is None else [values[int(k)] for k in place]

    def mean(values: Floats | None) -> Floats | None:
        return None if values is None else np.bincount(codes, values) / np.bincount(codes)

    scores = mean(found.scores)
    assert scores is not None
    return replace(
        found,
        ids=list(first),
        scores=scores,
        content={part: of_first(values) or [] for part, values in found.content.items()},
        clusters=of_first(found.clusters),
        floors=mean(found.floors),
        texts=None,  # of several, none is the answer
        golds=of_first(found.golds),
    )


def _counted(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
