"""The scores of two models on the same items, paired by id and content, never by order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from audit.answering.paired_answers import PairedScores
from audit.errors import AuditError
from audit.workflows.results.task_scores import TaskScores, listed


@dataclass(frozen=True, eq=False)
class Pair:
    """One task of two models: the scores as verdicts take them, and the items in the order of BASE.

    `missing` counts the items of each side that the other lacks, and that were dropped.
    """

    base: TaskScores
    edited: TaskScores
    scores: PairedScores
    missing: tuple[int, int]


def paired(base: TaskScores, edited: TaskScores, names: tuple[str, str], *, allow_missing: bool = False) -> Pair:
    """Pair the items of two models; `names` are theirs in errors.

    Raises:
        AuditError: the tasks were asked or scored in different ways; or items have the same id and another content; or
            they are not all there on both sides, which `allow_missing` allows while some are.
    """
    _require_alike(base, edited, names)
    place = {name: k for k, name in enumerate(edited.ids)}
    kept = [k for k, name in enumerate(base.ids) if name in place]
    missing = len(base.ids) - len(kept), len(edited.ids) - len(kept)
    if not kept:
        raise AuditError(
            f"{base.task}: no item of {names[0]} is in {names[1]} (ids {listed(base.ids)} and {listed(edited.ids)}); "
            "give results of the same items."
        )
    if any(missing) and not allow_missing:
        others = set(base.ids)
        lost = [name for name in base.ids if name not in place], [name for name in edited.ids if name not in others]
        said = " and ".join(
            f"{len(ids)} of {len(one.ids)} items are only in {name} ({listed(ids)})"
            for ids, one, name in zip(lost, (base, edited), names, strict=True)
            if ids
        )
        raise AuditError(f"{base.task}: {said}; ask both models the same items, or drop these with --allow-missing.")
    first = _rows(base, None if not missing[0] else kept)
    second = _rows(edited, None if first.ids == edited.ids else [place[name] for name in first.ids])
    _require_same_content(first, second, names)
    if not first.floor_source:
        first = replace(first, floor=second.floor, floor_source=second.floor_source)
    floors = first.floors if first.floors is not None else second.floors
    theirs = floors if second.floors is None else second.floors
    if first.run is None and floors is not None and theirs is not None and not np.array_equal(floors, theirs):
        raise AuditError(f"{base.task}: the floors of {names[0]} and {names[1]} differ; give each item one floor.")
    scores = PairedScores(
        base=first.scores,  # type: ignore[arg-type]  # arrays are sequences of floats here
        edited=second.scores,  # type: ignore[arg-type]
        clusters=first.clusters if first.clusters is not None else second.clusters,  # type: ignore[arg-type]
        base_counts=first.counts,
        edited_counts=second.counts,
        floors=floors,  # type: ignore[arg-type]
        base_odds=first.odds,
        edited_odds=second.odds,
        positives=first.positives,
    )
    return Pair(first, second, scores, missing)


def _require_alike(base: TaskScores, edited: TaskScores, names: tuple[str, str]) -> None:
    facts = [("format", "protocol"), ("metric", "metric")]
    for what, part in facts:
        ours, theirs = getattr(base, part), getattr(edited, part)
        if ours != theirs:
            raise AuditError(
                f"{base.task}: the {what} is {ours} in {names[0]} and {theirs} in {names[1]}; scores are comparable "
                "only if both models were asked and scored in the same way."
            )
    if base.run is not None and edited.run is not None:
        ways = [(one.run.how, one.run.offset) for one in (base, edited) if one.run is not None]
        if ways[0] != ways[1]:
            raise AuditError(
                f"{base.task}: read by {ways[0][0]} in {names[0]} and by {ways[1][0]} in {names[1]}; run both with the "
                "same --reading and --prompting."
            )


def _require_same_content(base: TaskScores, edited: TaskScores, names: tuple[str, str]) -> None:
    for part in dict.fromkeys((*base.content, *edited.content)):
        ours, theirs = base.content.get(part), edited.content.get(part)
        if ours is None or theirs is None:
            lacking = names[0] if ours is None else names[1]
            raise AuditError(f"{base.task}: {lacking} does not say what the {part} of its items is; write it in both.")
        if ours != theirs:
            other = [name for name, one, two in zip(base.ids, ours, theirs, strict=True) if one != two]
            raise AuditError(
                f"{base.task}: {len(other)} of {len(base.ids)} items have the same id in {names[0]} and {names[1]} and "
                f"another {part} ({listed(other)}); give results of the same items, asked in the same way."
            )


def _rows(found: TaskScores, rows: Sequence[int] | None) -> TaskScores:
    """The task with these rows, in this order; all of them if None."""
    if rows is None:
        return found

    def part(values: Any) -> Any:
        if values is None:
            return None
        return values[list(rows)] if isinstance(values, np.ndarray) else [values[k] for k in rows]

    cut = ("ids", "scores", "clusters", "floors", "texts", "golds", "counts", "odds", "positives")
    content = {name: part(values) for name, values in found.content.items()}
    return replace(found, content=content, **{name: part(getattr(found, name)) for name in cut})
