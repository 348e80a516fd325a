"""The scores of a run of this project, from its `items.jsonl`: as BASE those of the base model, else the edited ones.

The answers are parsed and scored again with the installed abilities, as in `audit rescore`, because a corpus metric and
an AUC need more than an item's score.
"""

from pathlib import Path

import numpy as np

from audit.abilities import PROTOCOLS
from audit.answering.paired_answers import PairedAnswers
from audit.errors import AuditError
from audit.reports.folder import read_report
from audit.reports.rows import AbilityRow, RunReport
from audit.store.content import content_fingerprint
from audit.workflows.rescore import saved_answers
from audit.workflows.results.task_scores import ModelScores, TaskScores


def run_scores(folder: Path, *, edited: bool) -> ModelScores:
    """The scores of a run's base model, or of its edited models (their mean).

    Raises:
        AuditError: the folder holds no report, or one without any verdict or without its items.
    """
    run = read_report(folder, with_items=True)
    if not run.abilities:
        raise AuditError(f"{folder}: this run has no verdict on an ability; give one that judged at least one.")
    tasks = tuple(_task(run, row, edited=edited) for row in run.abilities)
    return ModelScores(str(folder), tasks)


def _task(run: RunReport, row: AbilityRow, *, edited: bool) -> TaskScores:
    if row.protocol not in PROTOCOLS:
        return _compared(run, row, edited=edited)
    paired = saved_answers(run, row)
    scores, items = paired.scores, paired.base.items
    return TaskScores(
        task=row.ability,
        metric=row.metric,
        protocol=row.protocol,
        ids=[item.key for item in items],
        scores=np.asarray(scores.edited if edited else scores.base, dtype=np.float64),
        content={
            "item": [content_fingerprint([paired.ability.prompt(i), list(i.choices), list(i.gold)]) for i in items]
        },
        clusters=scores.clusters,
        floor=row.verdict.floor,
        floors=None if scores.floors is None else np.asarray(scores.floors, dtype=np.float64),
        floor_source="the run",
        texts=_texts(paired, edited=edited),
        golds=[" or ".join(item.gold) for item in items],
        counts=scores.edited_counts if edited else scores.base_counts,
        odds=scores.edited_odds if edited else scores.base_odds,
        positives=scores.positives,
        run=row,
        seed=run.header.seed,
    )


def _texts(paired: PairedAnswers, *, edited: bool) -> list[str] | None:
    if edited and len(paired.edited) > 1:
        return None
    return [answer.text for answer in (paired.edited[0] if edited else paired.base).answers]


def _compared(run: RunReport, row: AbilityRow, *, edited: bool) -> TaskScores:
    """The scores that a comparison kept."""
    items = [item for item in run.items if item.ability == row.ability]
    if len(items) != row.verdict.n:
        raise AuditError(
            f"{run.folder}/items.jsonl holds {len(items)} of the {row.verdict.n} items of {row.ability}; it is not "
            "whole, so compare again."
        )
    floors = [item.floor.score for item in items if item.floor is not None]
    return TaskScores(
        task=row.ability,
        metric=row.metric,
        protocol=row.protocol,
        ids=[item.key for item in items],
        content={part: [str((item.fields or {}).get(part)) for item in items] for part in items[0].fields or ()},
        scores=np.array([item.edited_score if edited else item.base.score for item in items], dtype=np.float64),
        clusters=[item.cluster for item in items],
        floor=row.verdict.floor,
        floors=np.array(floors) if floors else None,
        floor_source="the comparison" if row.verdict.floor else "",
        texts=[(item.edited[0] if edited else item.base).text for item in items],
        golds=[" or ".join(item.gold) for item in items],
        run=row,
        seed=run.header.seed,
    )
