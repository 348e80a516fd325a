"""Greedy answers begun from a draft: the same answers, with most of their tokens read and not written.

    base = write_answers(lm, prompts, decoding)
    with patch.applied(lm):
        edited = write_from_drafts(lm, prompts, {n: one.ids for n, one in enumerate(base)}, decoding)

One pass over prompt and draft says what the model itself would write at each place of the draft. As long as that is
the draft's own token, it is what decoding would have written; where they first part, the model's token is taken and
decoding goes on from there. The verifying half of speculative decoding (Leviathan et al. 2023, arXiv 2211.17192) with
greedy answers, where the edited model's draft is what the untouched one said.

A pass over many places and a step over one round differently: in float32 that decides nothing but exact ties, in half
precision it may, so there drafts are not for comparing two models.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import torch
from transformers import DynamicCache

from audit.engine.batching import TOKEN_BUDGET, pack, padded, run_batches
from audit.engine.continuations import LOGITS_PER_TOKEN
from audit.engine.decoding import Decoding
from audit.engine.forward import CausalForward
from audit.engine.generation import (
    BROKEN,
    Answered,
    Generated,
    StopStrings,
    answer_room,
    end_tokens,
    next_token,
    prompt_ids,
    write_answers,
)
from audit.engine.growing_cache import growing_cache, keeps_everything
from audit.engine.lower_blocks import LowerStates
from audit.engine.prompts import PORTION, WORTH_SHARING, common_beginning
from audit.engine.saving import Saving
from audit.models.language_model import LanguageModel
from audit.progress import Progress

TRIED = 512  # draft tokens after which it is known whether drafts are worth a pass of their own
WORTHWHILE = 0.25  # share of the draft tokens that must stand

Row = tuple[tuple[int, ...], tuple[int, ...]]  # the ids of a prompt and of its draft


def write_from_drafts(
    lm: LanguageModel,
    prompts: Sequence[str],
    drafts: Mapping[int, Sequence[int]],
    decoding: Decoding,
    *,
    lower: LowerStates | None = None,
    saving: Saving | None = None,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
    answered: Answered | None = None,
) -> list[Generated]:
    """What `write_answers` gives, for prompts of which some have a draft, by number of the prompt.

    A draft may be anything: too long, of another model, wrong from its first token on. `lower` holds the states below
    the first edited block, `saving` counts what drafts and states saved; the rest is as in `write_answers`.

    Raises:
        AuditError: a prompt is empty or leaves no room for an answer in the context; it is named by its number.
    """
    numbers: dict[Row, list[int]] = {}
    for number, prompt in enumerate(prompts):
        ids = prompt_ids(lm, prompt, f"Prompt {number}")
        draft = tuple(drafts.get(number, ()))[: answer_room(lm, ids, decoding)]
        if draft:
            numbers.setdefault((ids, draft), []).append(number)
    answers: dict[int, Generated] = {}

    def told(fresh: Mapping[int, Generated]) -> None:
        answers.update(fresh)
        if answered is not None and fresh:
            answered(fresh)
        if progress is not None:
            progress(len(answers), len(prompts))

    def ended(fresh: Mapping[Row, Generated]) -> None:
        told({number: one for row, one in fresh.items() for number in numbers[row]})

    forward = CausalForward(lm) if lower is None else lower.forward(lm, saving)
    begun = _read_drafts(lm, forward, list(numbers), decoding, token_budget, ended)
    if saving is not None:
        saving.drafts += len(answers) + sum(len(numbers[row]) for row in begun)
        saving.stood += len(answers)

    left = [number for number in range(len(prompts)) if number not in answers]
    place = {number: at for at, number in enumerate(left)}
    if left:
        write_answers(
            lm,
            [prompts[number] for number in left],
            decoding,
            begun={place[number]: written for row, written in begun.items() for number in numbers[row]},
            token_budget=token_budget,
            answered=lambda fresh: told({left[at]: one for at, one in fresh.items()}),
        )
    if saving is not None:
        tokens = {prompts[n]: len(prompt_ids(lm, prompts[n], "A prompt")) + len(answers[n].ids) for n in left}
        saving.computed += sum(tokens.values()) * lm.anatomy.depth
    return [answers[number] for number in range(len(prompts))]


def _read_drafts(
    lm: LanguageModel,
    forward: CausalForward,
    rows: Sequence[Row],
    decoding: Decoding,
    token_budget: int,
    ended: Callable[[Mapping[Row, Generated]], None],
) -> dict[Row, list[int]]:
    """Read every row; tell `ended` of answers that are whole, and return how the others begin.

    Rows that are left out, because too few of the drafts before them stood, begin with nothing.
    """
    vocabulary = int(lm.model.config.get_text_config().vocab_size)
    stopping, ends = StopStrings(lm.tokenizer, decoding.stop), end_tokens(lm)
    common, cache = _read_common(forward, rows)
    begun: dict[Row, list[int]] = {}
    read = stood = 0

    def run(batch: list[int]) -> None:
        nonlocal read, stood
        if read >= TRIED and stood < WORTHWHILE * read:
            return
        chosen = [rows[i] for i in batch]
        whole: dict[Row, Generated] = {}
        for row, own in zip(chosen, _own_tokens(forward, chosen, common, cache), strict=True):
            written, text = _as_written(row[1], own, answer_room(lm, row[0], decoding), stopping, ends)
            if text is None:
                begun[row] = written
            else:
                whole[row] = Generated(text, tuple(written))
            read += len(own)
            stood += len(written)
        ended(whole)

    costs = [
        max(len(prompt) - common + len(draft), len(draft) * vocabulary // LOGITS_PER_TOKEN) for prompt, draft in rows
    ]
    at_once = min(token_budget, PORTION) if forward.device.type == "cpu" else token_budget
    run_batches(pack(costs, at_once), run)
    return begun


def _read_common(forward: CausalForward, rows: Sequence[Row]) -> tuple[int, DynamicCache | None]:
    """How many tokens all prompts begin with, where reading them once saves enough, and their keys and values."""
    ids = common_beginning([prompt[:-1] for prompt, _ in rows])
    cache = forward.new_cache()
    if len(ids) * (len(rows) - 1) < WORTH_SHARING or not keeps_everything(growing_cache(forward.lm)):
        return 0, None
    tokens = torch.tensor([ids], device=forward.device)  # (1, common)
    forward(tokens, torch.ones_like(tokens), cache, keep=1)
    return len(ids), cache


def _own_tokens(
    forward: CausalForward, rows: Sequence[Row], common: int, cache: DynamicCache | None
) -> list[list[int]]:
    """The token that the model ranks first at every place of each draft, given the draft's tokens before it.

    `cache` (one row) holds the first `common` tokens of all prompts.
    """
    # Padding on the left brings the drafts of all rows to the last columns, where the head is.
    ids, mask = padded([[*prompt[common:], *draft[:-1]] for prompt, draft in rows], "left", forward.device)
    if cache is not None:
        cache = deepcopy(cache)
        cache.batch_select_indices(torch.zeros(len(rows), dtype=torch.int64, device=forward.device))
        mask = torch.nn.functional.pad(mask, (common, 0), value=1)  # (rows, common + width)
    keep = max(len(draft) for _, draft in rows)
    best, tokens = forward(ids, mask, cache, keep=keep).max(dim=-1)  # (rows, keep) twice
    tokens = tokens.masked_fill(~best.isfinite(), BROKEN)
    return [own[keep - len(draft) :] for own, (_, draft) in zip(tokens.tolist(), rows, strict=True)]


def _as_written(
    draft: Sequence[int], own: Sequence[int], room: int, stopping: StopStrings, ends: frozenset[int]
) -> tuple[list[int], str | None]:
    """Write the model's `own` tokens as decoding does, up to the first that is not the draft's.

    Returns the tokens written, and the answer's text if they end it.
    """
    written: list[int] = []
    for drafted, token in zip(draft, own, strict=True):
        text = next_token(written, token, room, stopping, ends)
        if text is not None:
            return written, text
        if token != drafted:
            break
    return written, None
