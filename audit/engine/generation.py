"""Greedy answers in batches: the same text for a prompt, whichever prompts it is computed with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from audit.engine.batching import TOKEN_BUDGET, context_length, pack, require_room, run_batches
from audit.engine.decoding import Decoding
from audit.engine.forward import CausalForward
from audit.engine.prompts import Beginning, read_beginning, read_prompts
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode
from audit.progress import Progress

BROKEN = -1  # stands for a next token where no logit was finite
# How many tokens a kind of device writes before anybody looks at them (others: `UNREAD`). A processor runs no faster
# unread; an accelerator need not wait at every token for the one who looks.
STEPS_UNREAD = {"cpu": 1}
UNREAD = 4
ROWS_AT_ONCE = 8
MOST_ANSWERS = 8.0
CACHE_BYTES = 4 << 30  # for keys and values, where the device cannot say how much memory is free


@dataclass(frozen=True)
class Generated:
    """An answer: its text, and the ids of the tokens it was written in.

    `ids` end with the token that ended the answer (an end of text, or the one that completed a stop string), so they
    say how an equal model would write it. They are empty where the model's logits stopped being finite.
    """

    text: str
    ids: tuple[int, ...]


Answered = Callable[[Mapping[int, Generated]], None]  # called batch by batch: number of the prompt -> its answer


def generate(
    lm: LanguageModel,
    prompts: Sequence[str],
    decoding: Decoding,
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
) -> list[str]:
    """The texts of `write_answers`, in the order of the prompts."""
    answers = write_answers(lm, prompts, decoding, token_budget=token_budget, progress=progress)
    return [answer.text for answer in answers]


def write_answers(
    lm: LanguageModel,
    prompts: Sequence[str],
    decoding: Decoding,
    *,
    begun: Mapping[int, Sequence[int]] | None = None,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
    answered: Answered | None = None,
) -> list[Generated]:
    """Continue every prompt greedily; return the new text alone, in the order of the prompts.

    A text ends before the first stop string, before an end-of-text token, after `decoding.max_new_tokens`, or at the
    end of the model's context. It is "" when the model's logits stop being finite on the way (a collapsed edit).
    A batch holds prompts of at most `token_budget` tokens with padding; identical prompts are computed once, and so is
    what all prompts begin with.

    Args:
        begun: by number of the prompt, tokens that its answer is known to begin with and that do not end it; the model
            goes on after them.
        answered: told of every finished batch, before the next one begins.

    Raises:
        AuditError: a prompt is empty or leaves no room for an answer in the context; it is named by its number.
    """
    if decoding.max_new_tokens < 1:
        raise AuditError(f"max_new_tokens must be at least 1, not {decoding.max_new_tokens}; an answer needs a token.")
    rows: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}  # (prompt, begun) -> the prompts that read so
    for number, prompt in enumerate(prompts):
        ids = prompt_ids(lm, prompt, f"Prompt {number}")
        rows.setdefault((ids, tuple((begun or {}).get(number, ()))), []).append(number)

    contents = list(rows)
    room = [answer_room(lm, ids, decoding) for ids, _ in contents]
    most = answers_at_once(lm, token_budget) if contents else 1.0
    lengths = [len(ids) for ids, _ in contents]
    sizes = [max(length, ceil((length + new) / most)) for length, new in zip(lengths, room, strict=True)]
    batches = pack(sizes, token_budget)
    answers: dict[int, Generated] = {}
    forward = CausalForward(lm)
    stopping = StopStrings(lm.tokenizer, decoding.stop)
    ends = end_tokens(lm)
    beginning = read_beginning(forward, [(*ids, *begun) for ids, begun in contents])

    def run(batch: list[int]) -> None:
        found = _generate_batch(
            forward, [contents[i] for i in batch], [room[i] for i in batch], stopping, ends, beginning
        )
        fresh = {number: one for i, one in zip(batch, found, strict=True) for number in rows[contents[i]]}
        answers.update(fresh)
        if answered is not None:
            answered(fresh)
        if progress is not None:
            progress(len(answers), len(prompts))

    run_batches(batches, run)
    return [answers[number] for number in range(len(prompts))]


def prompt_ids(lm: LanguageModel, prompt: str, what: str) -> tuple[int, ...]:
    """The tokens that the model is asked with; `what` names the prompt in an error.

    Raises:
        AuditError: the prompt is empty or leaves no room for an answer in the context.
    """
    ids = tuple(encode(lm.tokenizer, lm.full_prompt(prompt)))
    require_room(lm, ids, what, prompt, new_tokens=1)
    return ids


def answer_room(lm: LanguageModel, ids: Sequence[int], decoding: Decoding) -> int:
    """How many tokens the answer to a prompt of these ids may have."""
    limit = context_length(lm)
    return decoding.max_new_tokens if limit is None else min(decoding.max_new_tokens, limit - len(ids))


def answers_at_once(lm: LanguageModel, token_budget: int) -> float:
    """By how much prompts with their answers may exceed the budget, from 1 to `MOST_ANSWERS`.

    The budget is for what is computed at once, and that is prompts. Answers fill memory only as they grow, and mostly
    end far below their limit; so they may take more, as long as all keys and values at their longest fit.
    """
    config = lm.model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1
    shared = (getattr(config, "num_key_value_heads", None) or heads) / heads
    a_token = 2 * lm.anatomy.depth * lm.anatomy.hidden_size * shared * lm.dtype.itemsize  # bytes, keys and values
    memory = torch.cuda.mem_get_info(lm.device)[0] // 2 if lm.device.type == "cuda" else CACHE_BYTES
    return min(max(memory / (token_budget * a_token), 1.0), MOST_ANSWERS)


def end_tokens(lm: LanguageModel) -> frozenset[int]:
    """Every token id that ends a text, from the generation configuration, the configuration and the tokenizer."""
    ends: set[int] = set()
    for owner in (lm.model.generation_config, lm.model.config, lm.tokenizer):
        named = getattr(owner, "eos_token_id", None)
        if named is not None:
            ends.update(named if isinstance(named, Iterable) else (named,))
    return frozenset(ends)


class StopStrings:
    """Finds stop strings in token sequences without decoding them at every step.

    >>> stopping = StopStrings(tokenizer, ("\\n",))
    >>> stopping.cut(" Paris\\nQuestion")
    (' Paris', True)

    A stop string is complete only after a token whose text holds its last character, so `may_complete` looks at one
    token (and remembers it), and only then are a row's tokens decoded.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> None:
        if "" in stops:
            raise AuditError("A stop string must not be empty; leave it out of Decoding.stop instead.")
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._last_characters = {stop[-1] for stop in stops}
        self._known: dict[int, bool] = {}

    def decode(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def may_complete(self, token: int) -> bool:
        """Whether a stop string can end within this token."""
        known = self._known.get(token)
        if known is None:
            text = self.decode([token])
            # U+FFFD: part of a character. A lone token may lose its leading space, so spaces prove nothing.
            known = "�" in text or any(last == " " or last in text for last in self._last_characters)
            self._known[token] = known
        return known and bool(self._stops)

    def cut(self, text: str) -> tuple[str, bool]:
        """The text before the earliest stop string, and whether there was one."""
        starts = [start for stop in self._stops if (start := text.find(stop)) >= 0]
        return (text[: min(starts)], True) if starts else (text, False)


def _generate_batch(
    forward: CausalForward,
    rows_begun: Sequence[tuple[Sequence[int], Sequence[int]]],
    room: Sequence[int],
    stopping: StopStrings,
    ends: frozenset[int],
    beginning: Beginning | None,
) -> list[Generated]:
    """Answer (prompt, begun) rows together; row i gets at most room[i] tokens. Rows that finish leave the batch."""
    texts: list[str | None] = [None] * len(rows_begun)
    written = [list(begun) for _, begun in rows_begun]
    rows = list(range(len(rows_begun)))  # rows[k] is the prompt in the k-th row of the tensors
    read = read_prompts(forward, [(*prompt, *begun) for prompt, begun in rows_begun], beginning)
    width = read.mask.shape[1]
    steps = max(new - len(begun) for new, (_, begun) in zip(room, rows_begun, strict=True))
    mask = torch.nn.functional.pad(read.mask, (0, steps), value=1)  # (rows, width + steps)
    cache = read.cache
    tokens = _likeliest(read.logits).to(forward.device)  # (rows,)
    unread = [tokens]
    together = STEPS_UNREAD.get(forward.device.type, UNREAD)

    for step in range(1, steps + 1):
        if len(unread) == together or step == steps:
            for said in torch.stack(unread).tolist():
                for row, token in zip(rows, said, strict=True):
                    if texts[row] is None:
                        texts[row] = next_token(written[row], token, room[row], stopping, ends)
            unread.clear()
            staying = _staying([texts[row] is None for row in rows])
            if not staying:
                break
            if len(staying) < len(rows):
                kept = torch.tensor(staying, device=tokens.device)
                tokens, mask = tokens[kept], mask[kept]
                cache.batch_select_indices(kept)
                rows = [rows[k] for k in staying]
        ids = tokens.clamp(min=0).unsqueeze(1)  # (rows, 1)
        logits = forward(ids, mask[:, : width + step], cache, keep=1)
        tokens = _likeliest(logits[:, -1]).to(forward.device)
        unread.append(tokens)
    return [Generated(text or "", tuple(ids)) for text, ids in zip(texts, written, strict=True)]


def _likeliest(logits: Tensor) -> Tensor:
    """The next token of every row, (rows,), or `BROKEN`; `logits` are (rows, vocabulary)."""
    best, tokens = logits.max(dim=-1)  # NaN wins every maximum, so `best` shows it
    return tokens.masked_fill(~best.isfinite(), BROKEN)


def _staying(is_open: Sequence[bool]) -> list[int]:
    """The rows that stay in the batch: none when all are finished, all while few are, else the open ones.

    Leaving costs a copy of the cache, so a fifth of the rows must go at once. Finished rows fill up to a multiple of
    `ROWS_AT_ONCE`, because products of a number of rows that was there before start sooner.
    """
    open_rows = [k for k, one in enumerate(is_open) if one]
    size = min(-(-len(open_rows) // ROWS_AT_ONCE) * ROWS_AT_ONCE, len(is_open))
    if not open_rows or size > 0.8 * len(is_open):
        return open_rows and list(range(len(is_open)))
    finished = [k for k, one in enumerate(is_open) if not one]
    return sorted([*open_rows, *finished[: size - len(open_rows)]])


def next_token(written: list[int], token: int, room: int, stopping: StopStrings, ends: frozenset[int]) -> str | None:
    """Add a token to an answer; return the whole text if that ends it, else None.

    `token` is `BROKEN` where no logit was finite: the answer is then empty, and so is `written`.
    """
    if token == BROKEN:
        written.clear()
        return ""
    written.append(token)
    if token in ends:
        return stopping.cut(stopping.decode(written[:-1]))[0]
    if len(written) < room and not stopping.may_complete(token):
        return None
    text, stopped = stopping.cut(stopping.decode(written))
    return text if stopped or len(written) == room else None
