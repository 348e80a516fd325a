"""Log-probabilities of given tokens under teacher forcing: the core of ranking, edit success and perplexity."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from torch import Tensor

from audit.engine.batching import Load, most_places, pack_loads, padded, run_batches
from audit.engine.forward import CausalForward, Places
from audit.engine.prefill import PORTION, Prefix, common_prefix, compute_prefix, prefill
from audit.models.language_model import LanguageModel
from audit.progress import Progress

# Logits that are reduced at once on a CPU: 1 MB in float32. More would leave its caches.
REDUCED_AT_ONCE = 256 << 10
# A group shares a prefix if this saves at least this share of its tokens; a second call of the model costs more than
# fewer tokens do.
LEAST_SAVED = 0.1
# On a CPU, one more entry in a batch may add this many tokens of padding; a call of its own costs as much as about 40.
MOST_PADDING = 32


@dataclass(frozen=True)
class Continuation:
    """Token ids; those from index `start` (at least 1) on are scored, each given all tokens before it.

    There may be none to score.
    """

    ids: tuple[int, ...]
    start: int

    @property
    def scored(self) -> int:
        """The number of scored tokens."""
        return len(self.ids) - self.start


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


@dataclass(frozen=True, eq=False)
class _TokenScores:
    """Scores of tokens, (tokens,) each, on the CPU: log-probability (float32), hit (bool) and argmax (int64)."""

    log_probabilities: Tensor
    hits: Tensor
    predictions: Tensor


def score_continuations(
    lm: LanguageModel,
    groups: Sequence[Sequence[Continuation]],
    *,
    token_budget: int,
    progress: Progress | None = None,
    on_batch: Callable[[Mapping[int, list[ScoredTokens]]], None] | None = None,
    forward: CausalForward | None = None,
) -> list[list[ScoredTokens]]:
    """Score continuations. Tokens that all of them begin with, or that a group's members share, are computed once.

    The head runs on scored tokens only, at most `batching.LOGITS` logits a call. `on_batch` is called after every batch
    with the groups that it completed, by the group's number. `forward` replaces the plain call of the model.
    """
    found = {
        (g, m): ScoredTokens((), (), ())
        for g, group in enumerate(groups)
        for m, one in enumerate(group)
        if not one.scored
    }
    if found and on_batch is not None:
        on_batch(_complete(found, groups, {group for group, _ in found}))
    forward = forward or CausalForward(lm)
    places = most_places(lm)
    grouped, single = _split_work(groups, places)
    in_all = sum(len(group) for group in groups)
    on_cpu = forward.device.type == "cpu"
    budget, most_padding = (min(token_budget, PORTION), MOST_PADDING) if on_cpu else (token_budget, None)

    for works in (grouped, single):
        if works is grouped:
            prefix = compute_prefix(forward, [work.shared for work in works])
        else:
            firsts = [groups[work.group][work.members[0]] for work in works]
            prefix = compute_prefix(forward, [first.ids[: first.start] for first in firsts])
        known = 0 if prefix is None else len(prefix.ids)

        def run(batch: list[int], works: list[_Work] = works, prefix: Prefix | None = prefix) -> None:
            chosen = [works[i] for i in batch]
            rows = [(work.group, member) for work in chosen for member in work.members]
            continuations = [groups[group][member] for group, member in rows]
            if works is grouped:
                shared = [(work.shared, len(work.members)) for work in chosen]
                scores = _score_after_shared(forward, shared, continuations, prefix)
            elif len(continuations) == 1:
                scores = [_score_in_pieces(forward, continuations[0], prefix, places)]
            else:
                scores = _score_whole(forward, continuations, prefix)
            found.update(zip(rows, scores, strict=True))
            if on_batch is not None:
                on_batch(_complete(found, groups, {group for group, _ in rows}))
            if progress is not None:
                progress(len(found), in_all)

        loads = [_load([groups[work.group][member] for member in work.members], work.shared, known) for work in works]
        run_batches(pack_loads(loads, budget, places, most_padding), run)
    return [[found[g, m] for m in range(len(group))] for g, group in enumerate(groups)]


def _complete(
    found: Mapping[tuple[int, int], ScoredTokens], groups: Sequence[Sequence[Continuation]], which: Iterable[int]
) -> dict[int, list[ScoredTokens]]:
    """The groups of `which` whose members are all scored."""
    members = {g: [found.get((g, m)) for m in range(len(groups[g]))] for g in sorted(which)}
    return {g: [one for one in of if one is not None] for g, of in members.items() if None not in of}


def _load(members: Sequence[Continuation], shared: tuple[int, ...], known: int) -> Load:
    """The tokens that are computed for members whose `shared` tokens are computed once; `known` tokens are there.

    Logits are computed for every scored token, and for the next token after shared ones.
    """
    own = [len(member.ids) - 1 - (len(shared) or known) for member in members]
    return Load(
        shared=max(len(shared) - known, 0),
        rows=sum(map(bool, own)),
        longest=max(own),
        scored=int(bool(shared)) + sum(member.scored for member in members),
    )


def _split_work(groups: Sequence[Sequence[Continuation]], places: int) -> tuple[list[_Work], list[_Work]]:
    """Groups whose members share a prefix that is worth it, and continuations that are computed on their own.

    A group that needs logits at more than `places` is divided, and so is one of which some members share more than all
    of them do.
    """
    grouped: list[_Work] = []
    single: list[_Work] = []
    for g, group in enumerate(groups):
        parts: list[list[int]] = []
        for member, one in enumerate(group):
            if not one.scored:
                continue
            if parts and 1 + sum(group[m].scored for m in parts[-1]) + one.scored <= places:
                parts[-1].append(member)
            else:
                parts.append([member])
        for part in (nearest for whole in parts for nearest in _nearest(group, whole)):
            members = [group[m] for m in part]
            shared = common_prefix([one.ids[: one.start] for one in members])  # before what is scored
            saved = len(shared) * (len(part) - 1)
            if saved > 0 and saved >= LEAST_SAVED * sum(len(one.ids) - 1 for one in members):
                grouped.append(_Work(g, tuple(part), shared))
            else:
                single.extend(_Work(g, (member,), ()) for member in part)
    return grouped, single


def _nearest(group: Sequence[Continuation], members: Sequence[int]) -> list[list[int]]:
    """The members in parts whose common beginnings, computed once each, save the most tokens.

    A scorer may ask one item in several wordings; then the continuations of each wording share a prompt.
    """
    ordered = sorted((group[member].ids[: group[member].start], member) for member in members)
    prompts = [prompt for prompt, _ in ordered]
    alike = [len(common_prefix(pair)) for pair in pairwise(prompts)]
    # In this order members with a common beginning are neighbors. Parts are runs of neighbors, so few can be tried.
    best = [(0, 0)]  # for the first members: the tokens saved, and where their last part begins
    for end in range(len(ordered)):
        options, common = [(best[end][0], end)], len(prompts[end])
        for start in range(end - 1, -1, -1):
            common = min(common, alike[start])
            options.append((best[start][0] + common * (end - start), start))
        best.append(max(options, key=lambda option: (option[0], -option[1])))
    parts: list[list[int]] = []
    end = len(ordered)
    while end:
        start = best[end][1]
        parts.append(sorted(member for _, member in ordered[start:end]))
        end = start
    return sorted(parts)


def _score_whole(
    forward: CausalForward, continuations: Sequence[Continuation], prefix: Prefix | None
) -> list[ScoredTokens]:
    """Score in one call, padded on the right; `prefix` is a prefix that all continuations share."""
    known = 0 if prefix is None else len(prefix.ids)
    ids, mask = padded([c.ids[known:-1] for c in continuations], "right", forward.device)  # (rows, width) twice
    cache = None
    if prefix is not None:
        cache = prefix.cache(forward, len(continuations))
        mask = torch.nn.functional.pad(mask, (known, 0), value=1)  # (rows, known + width)
    places = _places([c.start - 1 - known for c in continuations], continuations)
    logits = forward(ids, mask, cache, keep=places)  # (scored, vocabulary)
    return _by_continuation(_score_tokens(logits, _targets(continuations)), continuations)


def _score_in_pieces(
    forward: CausalForward, continuation: Continuation, prefix: Prefix | None, places: int
) -> ScoredTokens:
    """Score one continuation in as many calls as it has `places` scored tokens; each continues from the one before."""
    if continuation.scored <= places:
        return _score_whole(forward, [continuation], prefix)[0]
    done = 0 if prefix is None else len(prefix.ids)
    cache = forward.new_cache() if prefix is None else prefix.cache(forward, 1)
    pieces = []
    for start in range(continuation.start, len(continuation.ids), places):
        piece = Continuation(continuation.ids[: start + places], start)
        ids, _ = padded([piece.ids[done:-1]], "right", forward.device)  # (1, new)
        mask = torch.ones(1, len(piece.ids) - 1, dtype=torch.int64, device=forward.device)
        logits = forward(ids, mask, cache, keep=_places([start - 1 - done], [piece]))  # (scored, vocabulary)
        pieces.append(_score_tokens(logits, _targets([piece])))
        done = len(piece.ids) - 1
    return _by_continuation(_concatenated(pieces), [continuation])[0]


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
    targets, is_first = _targets(continuations), columns == 0
    first = _score_tokens(start.logits, targets[is_first], copies[rows[is_first]])
    longer = torch.tensor([at for at, rest in enumerate(rests) if rest])
    if not len(longer):
        return _by_continuation(first, continuations)
    staying = copies[longer].to(forward.device)
    start.cache.batch_select_indices(staying)  # (longer members, heads, width, head_dim) in every layer
    ids, mask = padded([rest for rest in rests if rest], "right", forward.device)  # (longer members, rest) twice
    mask = torch.cat([start.mask[staying], mask], dim=1)  # (longer members, width + rest)
    places = Places(torch.searchsorted(longer, rows[~is_first]), columns[~is_first] - 1)
    later = _score_tokens(forward(ids, mask, start.cache, keep=places), targets[~is_first])
    order = torch.cat([is_first.nonzero()[:, 0], (~is_first).nonzero()[:, 0]]).argsort()
    return _by_continuation(_concatenated([first, later], order), continuations)


def _places(starts: Sequence[int], continuations: Sequence[Continuation]) -> Places:
    """Row and column of every scored token; the tokens of row i begin in column starts[i]."""
    counts = [c.scored for c in continuations]
    rows = [row for row, count in enumerate(counts) for _ in range(count)]
    columns = [start + at for start, count in zip(starts, counts, strict=True) for at in range(count)]
    return Places(torch.tensor(rows), torch.tensor(columns))


def _targets(continuations: Sequence[Continuation]) -> Tensor:
    """The scored tokens of all continuations, (scored,)."""
    return torch.tensor([token for c in continuations for token in c.ids[c.start :]])


def _score_tokens(logits: Tensor, targets: Tensor, rows: Tensor | None = None) -> _TokenScores:
    """Score tokens, (tokens,), from the logits (places, vocabulary) that predict them; token i from row `rows[i]`.

    Without `rows`, token i is predicted by row i. The logits are overwritten, so there is no second copy.
    """
    rows = torch.arange(len(targets)) if rows is None else rows  # (tokens,)
    values = logits[rows.to(logits.device), targets.to(logits.device)].float().cpu()  # (tokens,)
    at_once = max(1, REDUCED_AT_ONCE // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    reduced = []
    for block in torch.split(logits, at_once):  # (at most at_once, vocabulary)
        wide = block.float()
        best, likeliest = wide.max(dim=1)  # (at most at_once,) twice
        reduced.append((best, likeliest, wide.sub_(best[:, None]).exp_().sum(dim=1).log() + best))
    largest, argmax, normalizers = (torch.cat(column).cpu()[rows] for column in zip(*reduced, strict=True))
    is_finite = largest.isfinite()  # (tokens,)
    # If the largest logit is infinite, no log-probability is meaningful. A single token at -inf is a valid result.
    return _TokenScores(
        (values - normalizers).masked_fill(~is_finite, float("nan")),
        (argmax == targets) & is_finite,
        argmax.masked_fill(~is_finite, -1),
    )


def _concatenated(parts: Sequence[_TokenScores], order: Tensor | None = None) -> _TokenScores:
    """The tokens of all parts, taken in this order."""
    log_probabilities, hits, predictions = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("log_probabilities", "hits", "predictions")
    )
    if order is None:
        return _TokenScores(log_probabilities, hits, predictions)
    return _TokenScores(log_probabilities[order], hits[order], predictions[order])


def _by_continuation(scores: _TokenScores, continuations: Sequence[Continuation]) -> list[ScoredTokens]:
    """Distribute the scores of all scored tokens to their continuations."""
    columns = [iter(column.tolist()) for column in (scores.log_probabilities, scores.hits, scores.predictions)]
    counts = [c.scored for c in continuations]
    return [ScoredTokens(*(tuple(islice(column, count)) for column in columns)) for count in counts]
