"""The sentences about what a run reused."""

from audit.engine.reuse_counts import ReuseCounts


def reuse_sentences(counts: ReuseCounts) -> tuple[str, ...]:
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
