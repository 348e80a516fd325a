"""Counting what a run took over, from earlier runs and from one model to the next."""

from collections.abc import Iterable, Sequence

from audit.answering.paired_answers import PairedAnswers
from audit.answering.reuse import Reuse
from audit.editing.steps import EditedModel
from audit.reports.reuse import TakenOver


def taken_over(
    models: Sequence[EditedModel], requests: int, asked: Iterable[PairedAnswers], reuse: Reuse | None
) -> TakenOver:
    """The counts of a run of so many edit requests."""
    everything = [one for paired in asked for one in (paired.base, *paired.edited)]
    counts = None if reuse is None else reuse.counts
    return TakenOver(
        edits=requests,
        edits_resumed=sum(model.resumed for model in models),
        answers=sum(len(one.answers) for one in everything),
        answers_known=sum(one.from_store for one in everything),
        block_tokens=0 if counts is None else counts.shared + counts.computed,
        block_tokens_shared=0 if counts is None else counts.shared,
        drafts=0 if counts is None else counts.drafts,
        drafts_stood=0 if counts is None else counts.accepted,
    )
