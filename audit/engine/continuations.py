"""Log-probabilities of given tokens under teacher forcing: the core of ranking, edit success and perplexity."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from audit.engine.batching import pack, padded, run_batches
from audit.engine.forward import CausalForward
from audit.engine.prefill import PORTION, Prefix, common_prefix, compute_prefix, prefill
from audit.models.language_model import LanguageModel
from audit.progress import Progress

# This many logits count as one token of the budget, because long texts over large vocabularies could fill the memory
# with logits (a budget of 8192 tokens allows 64 million logits, 256 MB in float32).
LOGITS_PER_TOKEN = 8192


@dataclass(frozen=True)
class Continuation:
    """Token ids; those from index `start` (at least 1) on are scored, each given all tokens before it."""

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class ScoredTokens:
    """For every scored token: its log-probability (natural), whether it is the argmax, and the argmax.

    Where the largest logit is not finite (NaN or infinite), these are NaN, False and -1.
    """

    log_probabilities: tuple[float, ...]
    hits: tuple[bool, ...]
    predictions: tuple[int, ...]


@dataclass(frozen=True)
class _Work:
    """Members of one group that are computed together; `shared` are the tokens that all of them begin with."""

    group: int
    members: tuple[int, ...]
    shared: tuple[int, ...]


def score_continuations(
    lm: LanguageModel,
    groups: Sequence[Sequence[Continuation]],
    *,
    token_budget: int,
    progress: Progress | None = None,
    on_batch: Callable[[Mapping[int, list[ScoredTokens]]], None] | None = None,
    forward: CausalForward | None = None,
) -> list[list[ScoredTokens]]:
    """Score every continuation of every group. Tokens that a group shares before its scored tokens are computed once.

    `on_batch` is called after every batch with the groups that it completed, by the group's number. `forward` replaces
    the plain call of the model. `progress` counts continuations.
    """
    found: dict[tuple[int, int], ScoredTokens] = {}
    vocabulary = int(lm.model.config.get_text_config().vocab_size)
    forward = forward or CausalForward(lm)
    grouped, single = _split_work(groups)
    in_all = sum(len(group) for group in groups)
    prefix = compute_prefix(forward, [work.shared for work in grouped])

    def cost(work: _Work) -> int:
        members = [groups[work.group][member] for member in work.members]
        logits = max(len(member.ids) - member.start for member in members) * vocabulary
        return max(max(len(member.ids) for member in members), logits // LOGITS_PER_TOKEN)

    for works in (grouped, single):

        def run(batch: list[int], works: list[_Work] = works) -> None:
            chosen = [works[i] for i in batch]
            rows = [(work.group, member) for work in chosen for member in work.members]
            continuations = [groups[group][member] for group, member in rows]
            if works is grouped:
                shared = [(work.shared, len(work.members)) for work in chosen]
                scores = _score_after_shared(forward, shared, continuations, prefix)
            else:
                scores = _score_whole(forward, continuations)
            found.update(zip(rows, scores, strict=True))
            if on_batch is not None:
                on_batch(_complete(found, groups, {group for group, _ in rows}))
            if progress is not None:
                progress(len(found), in_all)

        budget = token_budget
        if forward.device.type == "cpu":
            # A group's shared tokens are computed once, so it costs about a quarter of its tokens.
            budget = min(token_budget, PORTION * (4 if works is grouped else 1))
        batches = pack([cost(work) for work in works], budget, [len(work.members) for work in works])
        run_batches(batches, run)
    return [[found[g, m] for m in range(len(group))] for g, group in enumerate(groups)]


def _complete(
    found: Mapping[tuple[int, int], ScoredTokens], groups: Sequence[Sequence[Continuation]], which: Iterable[int]
) -> dict[int, list[ScoredTokens]]:
    """The groups of `which` whose members are all scored."""
    members = {g: [found.get((g, m)) for m in range(len(groups[g]))] for g in sorted(which)}
    return {g: [one for one in of if one is not None] for g, of in members.items() if None not in of}


def _split_work(groups: Sequence[Sequence[Continuation]]) -> tuple[list[_Work], list[_Work]]:
    """Groups whose members share a prefix, and continuations that are computed on their own."""
    grouped: list[_Work] = []
    single: list[_Work] = []
    for g, group in enumerate(groups):
        shared = (
            common_prefix([one.ids[: one.start] for one in group]) if len(group) > 1 else ()
        )  # before what is scored
        if shared:
            grouped.append(_Work(g, tuple(range(len(group))), shared))
        else:
            single.extend(_Work(g, (member,), ()) for member in range(len(group)))
    return grouped, single


def _score_whole(forward: CausalForward, continuations: Sequence[Continuation]) -> list[ScoredTokens]:
    """Score in one call. Left padding puts all scored tokens into the last columns, the only ones with logits."""
    ids, mask = padded([c.ids[:-1] for c in continuations], "left", forward.device)  # (rows, width) twice
    keep = max(len(c.ids) - c.start for c in continuations)
    logits = forward(ids, mask, keep=keep)  # (rows, keep, vocabulary)
    rows, columns = _places([keep - (len(c.ids) - c.start) for c in continuations], continuations)
    return _score_values(logits[rows, columns], continuations)


def _score_after_shared(
    forward: CausalForward,
    shared: Sequence[tuple[tuple[int, ...], int]],
    continuations: Sequence[Continuation],
    prefix: Prefix | None,
) -> list[ScoredTokens]:
    """Score in two calls: the shared prefixes (padded left), then every member's own tokens (padded right).

    The first call already predicts a member's first token, so members of one token need no second call. `shared` is
    the prefix and the number of members of every group, `continuations` are the members in the same order, and
    `prefix` is the prefix that all groups share.
    """
    start = prefill(forward, [ids for ids, _ in shared], prefix)
    copies = torch.tensor([g for g, (_, members) in enumerate(shared) for _ in range(members)])  # (members of all,)
    skipped = [len(ids) for ids, members in shared for _ in range(members)]
    rests = [c.ids[s:-1] for c, s in zip(continuations, skipped, strict=True)]
    # Column 0 is predicted by the shared prefix, column 1 by the member's first own token, and so on.
    rows, columns = _places([c.start - s for c, s in zip(continuations, skipped, strict=True)], continuations)
    values = start.logits[copies[rows]]  # (scored, vocabulary)
    longer = torch.tensor([at for at, rest in enumerate(rests) if rest])
    if len(longer):
        staying = copies[longer].to(forward.device)
        start.cache.batch_select_indices(staying)  # (longer members, heads, width, head_dim) in every layer
        ids, mask = padded([rest for rest in rests if rest], "right", forward.device)  # (longer members, rest) twice
        mask = torch.cat([start.mask[staying], mask], dim=1)  # (longer members, width + rest)
        logits = forward(ids, mask, start.cache, keep=ids.shape[1])  # (longer members, rest, vocabulary)
        later = columns > 0
        values[later] = logits[torch.searchsorted(longer, rows[later]), columns[later] - 1]
    return _score_values(values, continuations)


def _places(starts: Sequence[int], continuations: Sequence[Continuation]) -> tuple[Tensor, Tensor]:
    """Row and column of every scored token, (scored,) each; the tokens of row i begin in column starts[i]."""
    counts = [len(c.ids) - c.start for c in continuations]
    rows = [row for row, count in enumerate(counts) for _ in range(count)]
    columns = [start + at for start, count in zip(starts, counts, strict=True) for at in range(count)]
    return torch.tensor(rows), torch.tensor(columns)


def _score_values(logits: Tensor, continuations: Sequence[Continuation]) -> list[ScoredTokens]:
    """Score the tokens of all continuations from the logits that predict them, (scored, vocabulary)."""
    scored = [c.ids[c.start :] for c in continuations]
    values = logits.float()  # (scored, vocabulary)
    targets = torch.tensor([token for tokens in scored for token in tokens], device=logits.device)  # (scored,)
    log_probabilities = values.gather(1, targets[:, None])[:, 0] - values.logsumexp(dim=1)  # (scored,)
    best, likeliest = values.max(dim=1)
    hits = (likeliest == targets) & best.isfinite()
    # If the largest logit is infinite, no log-probability is meaningful. A single token at -inf is a valid result.
    log_probabilities = log_probabilities.masked_fill(~best.isfinite(), float("nan"))
    predictions = likeliest.masked_fill(~best.isfinite(), -1)
    results = zip(log_probabilities.tolist(), hits.tolist(), predictions.tolist(), strict=True)
    by_row = [list(islice(results, len(tokens))) for tokens in scored]
    return [
        ScoredTokens(tuple(p for p, _, _ in row), tuple(h for _, h, _ in row), tuple(t for _, _, t in row))
        for row in by_row
    ]
