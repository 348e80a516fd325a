"""Log-probabilities of given tokens, teacher-forced: what ranking, edit success and perplexity have in common."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from audit.engine.batching import pack, padded, run_batches
from audit.engine.forward import CausalForward
from audit.engine.prompts import PORTION, Beginning, read_beginning, read_prompts
from audit.models.language_model import LanguageModel
from audit.progress import Progress

# A row counts as one token of the budget for this many logits: long texts over large vocabularies must not fill the
# memory with logits (8192 tokens of budget are at most 64 million logits, 256 MB in float32).
LOGITS_PER_TOKEN = 8192


@dataclass(frozen=True)
class Continuation:
    """Token ids, of which those from `start` (at least 1) on are to be scored, given all that come before them."""

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class ScoredTokens:
    """One entry for every scored token: its log-probability (natural), whether it was the likeliest, and which was.

    A log-probability is NaN, its hit False and its prediction -1, where the model's logits are not finite.
    """

    log_probabilities: tuple[float, ...]
    hits: tuple[bool, ...]
    predictions: tuple[int, ...]


@dataclass(frozen=True)
class _Work:
    """Continuations of one group, without the `shared` first tokens that they have in common."""

    group: int
    members: tuple[int, ...]
    shared: tuple[int, ...]


def score_continuations(
    lm: LanguageModel,
    groups: Sequence[Sequence[Continuation]],
    *,
    token_budget: int,
    progress: Progress | None = None,
    scored: Callable[[Mapping[int, list[ScoredTokens]]], None] | None = None,
    forward: CausalForward | None = None,
) -> list[list[ScoredTokens]]:
    """Score continuations; what the members of a group have in common before their scored tokens is computed once.

    `scored` is told of every group that is complete, batch by batch, by the group's number. `forward` calls the model
    where it is not to be called plainly.
    """
    found: dict[tuple[int, int], ScoredTokens] = {}
    vocabulary = int(lm.model.config.get_text_config().vocab_size)
    forward = forward or CausalForward(lm)
    together, alone = _split_work(groups)
    in_all = sum(len(group) for group in groups)
    beginning = read_beginning(forward, [work.shared for work in together])

    def cost(work: _Work) -> int:
        members = [groups[work.group][member] for member in work.members]
        logits = max(len(member.ids) - member.start for member in members) * vocabulary
        return max(max(len(member.ids) for member in members), logits // LOGITS_PER_TOKEN)

    for works in (together, alone):

        def run(batch: list[int], works: list[_Work] = works) -> None:
            chosen = [works[i] for i in batch]
            rows = [(work.group, member) for work in chosen for member in work.members]
            continuations = [groups[group][member] for group, member in rows]
            if works is together:
                shared = [(work.shared, len(work.members)) for work in chosen]
                scores = _score_after_shared(forward, shared, continuations, beginning)
            else:
                scores = _score_whole(forward, continuations)
            found.update(zip(rows, scores, strict=True))
            if scored is not None:
                scored(_complete(found, groups, {group for group, _ in rows}))
            if progress is not None:
                progress(len(found), in_all)

        budget = token_budget
        if forward.device.type == "cpu":
            # Of what members share, only one copy is computed: a group costs about a quarter of its tokens.
            budget = min(token_budget, PORTION * (4 if works is together else 1))
        batches = pack([cost(work) for work in works], budget, [len(work.members) for work in works])
        run_batches(batches, run)
    return [[found[g, m] for m in range(len(group))] for g, group in enumerate(groups)]


def _complete(
    found: Mapping[tuple[int, int], ScoredTokens], groups: Sequence[Sequence[Continuation]], which: Iterable[int]
) -> dict[int, list[ScoredTokens]]:
    """Those of the groups all of whose members are scored."""
    members = {g: [found.get((g, m)) for m in range(len(groups[g]))] for g in sorted(which)}
    return {g: [one for one in of if one is not None] for g, of in members.items() if None not in of}


def _split_work(groups: Sequence[Sequence[Continuation]]) -> tuple[list[_Work], list[_Work]]:
    """Groups with a common beginning, and continuations that are computed on their own."""
    together: list[_Work] = []
    alone: list[_Work] = []
    for g, group in enumerate(groups):
        shared = _common_beginning(group) if len(group) > 1 else ()
        if shared:
            together.append(_Work(g, tuple(range(len(group))), shared))
        else:
            alone.extend(_Work(g, (member,), ()) for member in range(len(group)))
    return together, alone


def _common_beginning(group: Sequence[Continuation]) -> tuple[int, ...]:
    """The tokens that all members begin with, ending before the first that is scored."""
    length = min(continuation.start for continuation in group)
    first = group[0].ids[:length]
    for continuation in group[1:]:
        while continuation.ids[: len(first)] != first:
            first = first[:-1]
    return first


def _score_whole(forward: CausalForward, continuations: Sequence[Continuation]) -> list[ScoredTokens]:
    """One call; padding on the left brings the scored tokens of all rows to the last columns, where the head is."""
    ids, mask = padded([c.ids[:-1] for c in continuations], "left", forward.device)  # (rows, width) twice
    keep = max(len(c.ids) - c.start for c in continuations)
    logits = forward(ids, mask, keep=keep)  # (rows, keep, vocabulary)
    rows, columns = _places([keep - (len(c.ids) - c.start) for c in continuations], continuations)
    return _score_values(logits[rows, columns], continuations)


def _score_after_shared(
    forward: CausalForward,
    shared: Sequence[tuple[tuple[int, ...], int]],
    continuations: Sequence[Continuation],
    beginning: Beginning | None,
) -> list[ScoredTokens]:
    """Two steps: the shared beginnings (padded left), then every member's own tokens (padded right) after them.

    The first step says how likely a member's first token is, so members of one token need no second one. `shared` has
    the beginning and the number of members of every group, `continuations` the members group by group; `beginning` is
    what all groups begin with.
    """
    read = read_prompts(forward, [ids for ids, _ in shared], beginning)
    copies = torch.tensor([g for g, (_, members) in enumerate(shared) for _ in range(members)])  # (members of all,)
    skipped = [len(ids) for ids, members in shared for _ in range(members)]
    rests = [c.ids[s:-1] for c, s in zip(continuations, skipped, strict=True)]
    # Column 0 stands for what the shared beginning predicts, column 1 for what a member's first own token does.
    rows, columns = _places([c.start - s for c, s in zip(continuations, skipped, strict=True)], continuations)
    values = read.logits[copies[rows]]  # (scored, vocabulary)
    longer = torch.tensor([at for at, rest in enumerate(rests) if rest])
    if len(longer):
        staying = copies[longer].to(forward.device)
        read.cache.batch_select_indices(staying)  # (longer members, heads, width, head_dim) in every layer
        ids, mask = padded([rest for rest in rests if rest], "right", forward.device)  # (longer members, rest) twice
        mask = torch.cat([read.mask[staying], mask], dim=1)  # (longer members, width + rest)
        logits = forward(ids, mask, read.cache, keep=ids.shape[1])  # (longer members, rest, vocabulary)
        later = columns > 0
        values[later] = logits[torch.searchsorted(longer, rows[later]), columns[later] - 1]
    return _score_values(values, continuations)


def _places(starts: Sequence[int], continuations: Sequence[Continuation]) -> tuple[Tensor, Tensor]:
    """Row and column of every scored token, (scored,) each: those of row i begin in column starts[i]."""
    counts = [len(c.ids) - c.start for c in continuations]
    rows = [row for row, count in enumerate(counts) for _ in range(count)]
    columns = [start + at for start, count in zip(starts, counts, strict=True) for at in range(count)]
    return torch.tensor(rows), torch.tensor(columns)


def _score_values(logits: Tensor, continuations: Sequence[Continuation]) -> list[ScoredTokens]:
    """Score the tokens of all continuations, one after another, with the logits that predict them."""
    scored = [c.ids[c.start :] for c in continuations]
    values = logits.float()  # (scored, vocabulary)
    targets = torch.tensor([token for tokens in scored for token in tokens], device=logits.device)  # (scored,)
    log_probabilities = values.gather(1, targets[:, None])[:, 0] - values.logsumexp(dim=1)  # (scored,)
    best, likeliest = values.max(dim=1)
    hits = (likeliest == targets) & best.isfinite()
    # An infinite logit leaves infinities that say nothing about the token; -inf for one token alone is an answer.
    log_probabilities = log_probabilities.masked_fill(~best.isfinite(), float("nan"))
    predictions = likeliest.masked_fill(~best.isfinite(), -1)
    told = zip(log_probabilities.tolist(), hits.tolist(), predictions.tolist(), strict=True)
    by_row = [list(islice(told, len(tokens))) for tokens in scored]
    return [
        ScoredTokens(tuple(p for p, _, _ in row), tuple(h for _, h, _ in row), tuple(t for _, _, t in row))
        for row in by_row
    ]
