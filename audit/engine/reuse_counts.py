"""Counts of what a run reused: from earlier runs, and from the base model for the edited models."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass
class ReuseCounts:
    """The amount of work of a run, and how much of it was known already.

    `edits_resumed` edits come from an interrupted run, `answers_known` answers from earlier runs. A block token is one
    token in one block of an edited model; it is shared if its result was known. `drafts` counts the base model's
    written answers that an edited model verified; `drafts_stood` those whose verification completed its own answer.
    """

    edits: int = 0
    edits_resumed: int = 0
    answers: int = 0
    answers_known: int = 0
    block_tokens: int = 0
    block_tokens_shared: int = 0
    drafts: int = 0
    drafts_stood: int = 0

    @classmethod
    def sum_of(cls, several: Iterable["ReuseCounts"]) -> "ReuseCounts":
        """The counts of all processes of one run. They share the edits, which count once."""
        counts = [asdict(one) for one in several]
        total = {name: sum(one[name] for one in counts) for name in asdict(cls())}
        total |= {name: max((one[name] for one in counts), default=0) for name in ("edits", "edits_resumed")}
        return cls(**total)
