"""Greedy decoding that starts from a draft: the same answers, but most tokens are verified in one pass.

    base = write_answers(lm, prompts, decoding)
    with patch.applied(lm):
        edited = write_from_drafts(lm, prompts, {n: one.ids for n, one in enumerate(base)}, decoding)

One pass over prompt and draft gives the model's own token at every position of the draft. Decoding would have written
the draft up to the first position where the two differ; there the model's token is taken, and decoding continues.
This is the verification step of speculative decoding (Leviathan et al. 2023, arXiv 2211.17192) for greedy answers; the
base model's answer is the draft for the edited model.

A pass over many positions rounds differently from single steps. In float32 only ties up to rounding error can come out
differently. In half precision such ties are common, so drafts must not be used there to compare two models.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import torch
from transformers import DynamicCache

from audit.engine import Decoding
from audit.engine.batching import TOKEN_BUDGET, most_places, pack, padded, run_batches
from audit.engine.forward import CausalForward, Places, growing_cache, keeps_everything
from audit.engine.generation import (
    BROKEN,
    GeneratedText,
    OnBatch,
    StopStrings,
    answer_room,
    end_tokens,
    next_token,
    prompt_ids,
    write_answers,
)
from audit.engine.lower_blocks import LowerStates
from audit.engine.prefill import PORTION, WORTH_SHARING, common_prefix
from audit.engine.reuse_counts import ReuseCounts
from audit.models.language_model import LanguageModel
from audit.progress import Progress

TRIED = 512  # verified draft tokens after which the share of accepted ones decides whether to go on
WORTHWHILE = 0.25  # the smallest share of accepted draft tokens that is worth a pass

Row = tuple[tuple[int, ...], tuple[int, ...]]  # the ids of a prompt and of its draft


def write_from_drafts(
    lm: LanguageModel,
    prompts: Sequence[str],
    drafts: Mapping[int, Sequence[int]],
    decoding: Decoding,
    *,
    lower: LowerStates | None = None,
    counts: ReuseCounts | None = None,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
    on_batch: OnBatch | None = None,
) -> list[GeneratedText]:
    """Return the same as `write_answers`; `drafts` maps the numbers of some prompts to token ids.

    A draft may be any sequence of tokens: too long, from another model, wrong from the first token on. `lower` stores
    the states that enter the first edited block, for the pass over the drafts; `counts` counts the work that drafts and
    states saved. The other arguments, and the errors, are those of `write_answers`.
    """
    numbers: dict[Row, list[int]] = {}
    for number, prompt in enumerate(prompts):
        ids = prompt_ids(lm, prompt, f"Prompt {number}")
        draft = tuple(drafts.get(number, ()))[: answer_room(lm, ids, decoding)]
        if draft:
            numbers.setdefault((ids, draft), []).append(number)
    answers: dict[int, GeneratedText] = {}

    def on_answers(fresh: Mapping[int, GeneratedText]) -> None:
        answers.update(fresh)
        if on_batch is not None and fresh:
            on_batch(fresh)
        if progress is not None:
            progress(len(answers), len(prompts))

    def on_whole(fresh: Mapping[Row, GeneratedText]) -> None:
        on_answers({number: one for row, one in fresh.items() for number in numbers[row]})

    forward = CausalForward(lm) if lower is None else lower.forward(lm, counts)
    openings = _verify_drafts(lm, forward, list(numbers), decoding, token_budget, on_whole)
    if counts is not None:
        counts.drafts += len(answers) + sum(len(numbers[row]) for row in openings)
        counts.drafts_stood += len(answers)

    left = [number for number in range(len(prompts)) if number not in answers]
    place = {number: at for at, number in enumerate(left)}
    if left:
        write_answers(
            lm,
            [prompts[number] for number in left],
            decoding,
            openings={place[number]: written for row, written in openings.items() for number in numbers[row]},
            token_budget=token_budget,
            on_batch=lambda fresh: on_answers({left[at]: one for at, one in fresh.items()}),
        )
    if counts is not None:
        tokens = {prompts[n]: len(prompt_ids(lm, prompts[n], "A prompt")) + len(answers[n].ids) for n in left}
        counts.block_tokens += sum(tokens.values()) * lm.anatomy.depth
    return [answers[number] for number in range(len(prompts))]


def _verify_drafts(
    lm: LanguageModel,
    forward: CausalForward,
    rows: Sequence[Row],
    decoding: Decoding,
    token_budget: int,
    on_whole: Callable[[Mapping[Row, GeneratedText]], None],
) -> dict[Row, list[int]]:
    """Verify every draft; pass complete answers to `on_whole` and return the openings of the others.

    Rows that were not tried, because too few draft tokens before them were accepted, are not in the result.
    """
    stopping, ends = StopStrings(lm.tokenizer, decoding.stop), end_tokens(lm)
    common, cache = _compute_common(forward, rows)
    openings: dict[Row, list[int]] = {}
    verified = accepted = 0

    def run(batch: list[int]) -> None:
        nonlocal verified, accepted
        if verified >= TRIED and accepted < WORTHWHILE * verified:
            return
        chosen = [rows[i] for i in batch]
        whole: dict[Row, GeneratedText] = {}
        for row, own in zip(chosen, _own_tokens(forward, chosen, common, cache), strict=True):
            written, text = _accept(row[1], own, answer_room(lm, row[0], decoding), stopping, ends)
            if text is None:
                openings[row] = written
            else:
                whole[row] = GeneratedText(text, tuple(written))
            verified += len(own)
            accepted += len(written)
        on_whole(whole)

    costs = [len(prompt) - common + len(draft) for prompt, draft in rows]
    budget = min(token_budget, PORTION) if forward.device.type == "cpu" else token_budget
    run_batches(pack(costs, budget, [len(draft) for _, draft in rows], most_places(lm)), run)
    return openings


def _compute_common(forward: CausalForward, rows: Sequence[Row]) -> tuple[int, DynamicCache | None]:
    """Compute the prefix that all prompts share, if that saves enough: its length and its cache, or (0, None)."""
    ids = common_prefix([prompt[:-1] for prompt, _ in rows])
    cache = forward.new_cache()
    if len(ids) * (len(rows) - 1) < WORTH_SHARING or not keeps_everything(growing_cache(forward.lm)):
        return 0, None
    tokens = torch.tensor([ids], device=forward.device)  # (1, common)
    forward(tokens, torch.ones_like(tokens), cache, keep=1)
    return len(ids), cache


def _own_tokens(
    forward: CausalForward, rows: Sequence[Row], common: int, cache: DynamicCache | None
) -> list[list[int]]:
    """The model's argmax at every position of each draft, given the draft's tokens before it.

    `cache` (one row) holds the first `common` tokens of all prompts.
    """
    # Left padding puts the drafts of all rows into the last columns.
    ids, mask = padded([[*prompt[common:], *draft[:-1]] for prompt, draft in rows], "left", forward.device)
    if cache is not None:
        cache = deepcopy(cache)
        cache.batch_select_indices(torch.zeros(len(rows), dtype=torch.int64, device=forward.device))
        mask = torch.nn.functional.pad(mask, (common, 0), value=1)  # (rows, common + width)
    counts = [len(draft) for _, draft in rows]
    width = ids.shape[1]
    at_rows = torch.tensor([row for row, count in enumerate(counts) for _ in range(count)])  # (drafted,)
    columns = torch.tensor([column for count in counts for column in range(width - count, width)])  # (drafted,)
    best, tokens = forward(ids, mask, cache, keep=Places(at_rows, columns)).max(dim=-1)  # (drafted,) twice
    return [own.tolist() for own in torch.split(tokens.masked_fill(~best.isfinite(), BROKEN), counts)]


def _accept(
    draft: Sequence[int], own: Sequence[int], room: int, stopping: StopStrings, ends: frozenset[int]
) -> tuple[list[int], str | None]:
    """Take the model's `own` tokens up to and including the first that differs from the draft.

    Returns these tokens, and the answer's text if they end it.
    """
    written: list[int] = []
    for drafted, token in zip(draft, own, strict=True):
        text = next_token(written, token, room, stopping, ends)
        if text is not None:
            return written, text
        if token != drafted:
            break
    return written, None
