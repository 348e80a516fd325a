"""Token sequences of an edit, and their alignment in batches.

An edit reads and changes every sequence at one position: the last token of the subject (the *lookup*). Rows are aligned
at their lookup, with padding on the left and on the right, so the lookups of a batch form one column. By causality, a
change at the lookup cannot affect the columns before it.

    prefix columns            lookup   suffix columns
    [pad pad The mother tongue | ord  | is Elv pad pad]
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.edits.requests import EditRequest
from audit.engine.batching import require_room
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import JoinedTokens, encode, join, subject_last


@dataclass(frozen=True)
class EditSequence:
    """A token sequence; `lookup` is the index of the subject's last token.

    `labels[t]` is the token that the logits at position `first_label + t` of `ids` should predict.
    """

    ids: tuple[int, ...]
    lookup: int
    first_label: int = 0
    labels: tuple[int, ...] = ()

    def until_lookup(self) -> "EditSequence":
        """The sequence cut after its lookup, without labels; keys and values there depend on nothing later."""
        return EditSequence(self.ids[: self.lookup + 1], self.lookup)


def prompt_sequence(lm: LanguageModel, request: EditRequest, prefix: str = "") -> EditSequence:
    """The filled prompt after `prefix` (a prefix context, or "" for the bare prompt).

    Raises:
        AuditError: the last token of the subject cannot be found; see `subject_last`.
    """
    lookup = subject_last(lm.tokenizer, request.prompt, request.subject, prefix=prefix)
    return EditSequence(tuple(encode(lm.tokenizer, prefix + request.filled_prompt)), lookup)


def rewriting_sequence(lm: LanguageModel, request: EditRequest, prefix: str = "") -> EditSequence:
    """`prefix`, the filled prompt and the new target without its last token, with the target's tokens as labels.

    Raises:
        AuditError: the last token of the subject cannot be found, or one token spans subject and target.
    """
    prompt = prompt_sequence(lm, request, prefix)
    joined = join(lm.tokenizer, prefix + request.filled_prompt, request.target_new)
    if joined.ids[: prompt.lookup + 1] != prompt.ids[: prompt.lookup + 1] or joined.prompt_length <= prompt.lookup:
        raise AuditError(
            f"one token spans the subject {request.subject!r} and the target {request.target_new!r} after the prompt "
            f"{request.prompt!r}; put a word between the subject and the target."
        )
    return EditSequence(
        joined.ids[:-1], prompt.lookup, joined.prompt_length - 1, tuple(joined.ids[joined.prompt_length :])
    )


def target_tokens(lm: LanguageModel, request: EditRequest) -> JoinedTokens:
    """The filled prompt and the new target, for training on the target.

    Raises:
        AuditError: the whole prompt merges with the target into one token, or both do not fit into the context.
    """
    joined = join(lm.tokenizer, request.filled_prompt, request.target_new)
    if joined.prompt_length == 0:
        raise AuditError(
            f"the target {request.target_new!r} merges with the whole prompt {request.filled_prompt!r} into one token, "
            "so no token is left before it; write a longer prompt."
        )
    require_room(lm, joined.ids, f"Edit {request.case_id!r}", request.filled_prompt)
    return joined


def essence_sequence(lm: LanguageModel, request: EditRequest) -> EditSequence:
    """The prompt "{subject} is a" of the KL divergence (ROME, section 3.1)."""
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
        """The rows with the indices `rows`, (selected,), in that order; the columns stay the same."""
        return AlignedRows(self.ids[rows], self.mask[rows], self.positions[rows], self.lookup)


def align(sequences: Sequence[EditSequence], device: torch.device) -> AlignedRows:
    """One row for each sequence, padded on both sides so that all lookups are in one column."""
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
    """Group `sequences` of similar shape, as indices, so that the padded size of a group is at most `token_budget`.

    A sequence longer than the budget is a group of its own.
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
