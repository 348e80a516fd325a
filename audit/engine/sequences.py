"""Token sequences of an edit, and how many of them stand side by side in one batch.

An edit reads every sequence at one place: the last token of the subject (the *lookup*). Rows are therefore aligned at
their lookup: what comes before is padded on the left, what comes after on the right, and one column cuts the batch into
a part that no perturbation at the lookup can reach (causality) and a part that it can.

    prefix columns            lookup   suffix columns
    [pad pad The mother tongue | ord  | is Elv pad pad]
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode, join, subject_last


@dataclass(frozen=True)
class EditSequence:
    """`labels[t]` is the token that the model is to predict at position `first_label + t` of `ids`."""

    ids: tuple[int, ...]
    lookup: int
    first_label: int = 0
    labels: tuple[int, ...] = ()

    def until_lookup(self) -> "EditSequence":
        """The same sequence cut after its lookup: all that keys and current values depend on."""
        return EditSequence(self.ids[: self.lookup + 1], self.lookup)


def prompt_sequence(lm: LanguageModel, request: EditRequest, prefix: str = "") -> EditSequence:
    """The prompt alone, after `prefix` (a prefix context, "" for the bare prompt).

    Raises:
        AuditError: the subject's last token cannot be found; see `subject_last`.
    """
    lookup = subject_last(lm.tokenizer, request.prompt, request.subject, prefix=prefix)
    return EditSequence(tuple(encode(lm.tokenizer, prefix + request.question)), lookup)


def rewriting_sequence(lm: LanguageModel, request: EditRequest, prefix: str = "") -> EditSequence:
    """Prompt and new target, without the target's last token, and the label of every position that predicts one."""
    prompt = prompt_sequence(lm, request, prefix)
    joined = join(lm.tokenizer, prefix + request.question, request.target_new)
    if joined.ids[: prompt.lookup + 1] != prompt.ids[: prompt.lookup + 1] or joined.prompt_length <= prompt.lookup:
        raise AuditError(
            f"the target {request.target_new!r} melts into the subject {request.subject!r} when the prompt "
            f"{request.prompt!r} is tokenized with it; put a word between the subject and the target."
        )
    return EditSequence(
        joined.ids[:-1], prompt.lookup, joined.prompt_length - 1, tuple(joined.ids[joined.prompt_length :])
    )


def essence_sequence(lm: LanguageModel, request: EditRequest) -> EditSequence:
    """ "{subject} is a": what the model says after it must not drift (ROME, section 3.1)."""
    lookup = subject_last(lm.tokenizer, "{} is a", request.subject)
    return EditSequence(tuple(encode(lm.tokenizer, f"{request.subject} is a")), lookup)


@dataclass(frozen=True)
class AlignedRows:
    """Rows aligned at their lookup; all tensors are (rows, columns), on the model's device."""

    ids: Tensor
    mask: Tensor  # 1 for tokens, 0 for padding on either side
    positions: Tensor  # counted from each row's first token; 0 in the padding
    lookup: int  # the column of every row's lookup

    def select(self, rows: Tensor) -> "AlignedRows":
        return AlignedRows(self.ids[rows], self.mask[rows], self.positions[rows], self.lookup)


def align(sequences: Sequence[EditSequence], device: torch.device) -> AlignedRows:
    """One row a sequence, padded on both sides so that every lookup is in one column."""
    before = max(sequence.lookup for sequence in sequences)
    after = max(len(sequence.ids) - sequence.lookup for sequence in sequences)
    ids = torch.zeros(len(sequences), before + after, dtype=torch.long)
    mask = torch.zeros_like(ids)
    positions = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        start = before - sequence.lookup
        end = start + len(sequence.ids)
        ids[row, start:end] = torch.tensor(sequence.ids)
        mask[row, start:end] = 1
        positions[row, start:end] = torch.arange(len(sequence.ids))
    return AlignedRows(ids.to(device), mask.to(device), positions.to(device), before)


def within_budget(sequences: Sequence[EditSequence], token_budget: int) -> Iterator[list[int]]:
    """Indices of `sequences` in groups of similar shape whose padded size stays within `token_budget` tokens.

    A single sequence longer than the budget still makes a group of its own.
    """
    order = sorted(range(len(sequences)), key=lambda index: (sequences[index].lookup, len(sequences[index].ids)))
    group: list[int] = []
    before = after = 0
    for index in order:
        sequence = sequences[index]
        new_before, new_after = max(before, sequence.lookup), max(after, len(sequence.ids) - sequence.lookup)
        if group and (len(group) + 1) * (new_before + new_after) > token_budget:
            yield group
            group, new_before, new_after = [], sequence.lookup, len(sequence.ids) - sequence.lookup
        group.append(index)
        before, after = new_before, new_after
    if group:
        yield group
