"""Work that a run reused, from earlier runs or from the base model: counts, their sum over processes, sentences."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class TakenOver:
    """How much of a run's work was reused.

    A block token is one token that passes one block of an edited model; it is shared if the base model's result was
    used. A draft is a written answer of the base model; it stood if the edited model writes the same.
    """

    edits: int = 0
    edits_resumed: int = 0
    answers: int = 0
    answers_known: int = 0
    block_tokens: int = 0
    block_tokens_shared: int = 0
    drafts: int = 0
    drafts_stood: int = 0


def reuse_sentences(counts: TakenOver) -> tuple[str, ...]:
    """One sentence for each kind of reuse that happened."""
    sentences = []
    if counts.edits_resumed:
        sentences.append(f"edits: {counts.edits_resumed} of {counts.edits} come from an interrupted run")
    if counts.answers_known:
        sentences.append(f"answers: {counts.answers_known} of {counts.answers} come from earlier runs")
    reused = []
    if counts.drafts_stood:
        reused.append(f"{counts.drafts_stood} of {counts.drafts} edited answers equal the base model's")
    if counts.block_tokens_shared:
        share = counts.block_tokens_shared / counts.block_tokens
        reused.append(f"{share:.0%} of the edited models' block computations were shared with the base model's")
    return (*sentences, f"reuse: {'; '.join(reused)}") if reused else tuple(sentences)


def summed(several: Iterable[TakenOver]) -> TakenOver:
    """The counts of several processes of one run. They share the edits, and each counts all that were resumed."""
    counts = [asdict(one) for one in several]
    total = {name: sum(one[name] for one in counts) for name in asdict(TakenOver())}
    total |= {name: max((one[name] for one in counts), default=0) for name in ("edits", "edits_resumed")}
    return TakenOver(**total)
