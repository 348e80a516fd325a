"""Greedy decoding in batches; an answer does not depend on the other prompts of its batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from audit.engine import Decoding, after_thinking
from audit.engine.batching import TOKEN_BUDGET, context_length, pack, require_room, run_batches
from audit.engine.forward import CausalForward
from audit.engine.prefill import Prefix, compute_prefix, prefill
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode
from audit.progress import Progress

BROKEN = -1  # in place of a next token if the largest logit is not finite (NaN or infinite)
# Decoding steps between two reads of the tokens, by device type (others: `UNREAD`). Each read makes an accelerator
# wait for the CPU; on a CPU it costs nothing.
STEPS_UNREAD = {"cpu": 1}
UNREAD = 4
ROWS_AT_ONCE = 8  # see `_rows_to_keep`
MOST_ANSWERS = 8.0  # see `answers_at_once`
CACHE_BYTES = 4 << 30  # for keys and values, where the device does not report its free memory


@dataclass(frozen=True)
class GeneratedText:
    """An answer: its text and its token ids.

    `ids` include the token that ended the answer (end of text, or the one that completed a stop string), so an equal
    model repeats them exactly. They are empty if a step was `BROKEN`.
    """

    text: str
    ids: tuple[int, ...]


OnBatch = Callable[[Mapping[int, GeneratedText]], None]  # called after every batch: number of the prompt -> answer


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
    openings: Mapping[int, Sequence[int]] | None = None,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
    on_batch: OnBatch | None = None,
) -> list[GeneratedText]:
    """Continue every prompt greedily; return only the new text, in the order of the prompts.

    A text ends before the first stop string, before an end-of-text token, after `decoding.max_new_tokens`, or at the
    end of the model's context. It is "" if a step is `BROKEN` (the edit broke the model). A batch holds prompts of at
    most `token_budget` tokens including padding. Identical prompts are computed once, and so is the prefix that all
    prompts share.

    Args:
        openings: by number of the prompt, the known first tokens of its answer, which do not end it.
        on_batch: called after every batch with its answers.

    Raises:
        AuditError: a prompt is empty or leaves no room for an answer in the context; it is named by its number. Also
            if `max_new_tokens` is below 1 or a stop string is empty.
    """
    if decoding.max_new_tokens < 1:
        raise AuditError(f"max_new_tokens must be at least 1, not {decoding.max_new_tokens}; an answer needs a token.")
    rows: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}  # (prompt, opening) -> prompts' numbers
    for number, prompt in enumerate(prompts):
        ids = prompt_ids(lm, prompt, f"Prompt {number}")
        rows.setdefault((ids, tuple((openings or {}).get(number, ()))), []).append(number)

    contents = list(rows)
    room = [answer_room(lm, ids, decoding) for ids, _ in contents]
    most = answers_at_once(lm, token_budget) if contents else 1.0
    lengths = [len(ids) for ids, _ in contents]
    sizes = [max(length, ceil((length + new) / most)) for length, new in zip(lengths, room, strict=True)]
    batches = pack(sizes, token_budget)
    answers: dict[int, GeneratedText] = {}
    forward = CausalForward(lm)
    stopping = StopStrings(lm.tokenizer, decoding.stop)
    ends = end_tokens(lm)
    prefix = compute_prefix(forward, [(*ids, *opening) for ids, opening in contents])

    def run(batch: list[int]) -> None:
        found = _generate_batch(forward, [contents[i] for i in batch], [room[i] for i in batch], stopping, ends, prefix)
        fresh = {number: one for i, one in zip(batch, found, strict=True) for number in rows[contents[i]]}
        answers.update(fresh)
        if on_batch is not None:
            on_batch(fresh)
        if progress is not None:
            progress(len(answers), len(prompts))

    run_batches(batches, run)
    return [answers[number] for number in range(len(prompts))]


def prompt_ids(lm: LanguageModel, prompt: str, what: str) -> tuple[int, ...]:
    """The tokens of a prompt as the model reads it; `what` names the prompt in an error.

    Raises:
        AuditError: the prompt is empty or leaves no room for an answer in the context.
    """
    ids = tuple(encode(lm.tokenizer, lm.full_prompt(prompt)))
    require_room(lm, ids, what, prompt, new_tokens=1)
    return ids


def answer_room(lm: LanguageModel, ids: Sequence[int], decoding: Decoding) -> int:
    """The largest number of tokens in the answer to a prompt of these ids."""
    limit = context_length(lm)
    return decoding.max_new_tokens if limit is None else min(decoding.max_new_tokens, limit - len(ids))


def answers_at_once(lm: LanguageModel, token_budget: int) -> float:
    """The factor by which prompts with their full answers may exceed the budget, from 1 to `MOST_ANSWERS`.

    The budget limits what is computed in one call, which is the prompts. Answers take memory only as they grow, and
    most end far below their limit, so they may exceed the budget as long as the largest possible cache fits.
    """
    config = lm.model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1
    shared = (getattr(config, "num_key_value_heads", None) or heads) / heads
    a_token = 2 * lm.anatomy.depth * lm.anatomy.hidden_size * shared * lm.dtype.itemsize  # bytes, keys and values
    memory = torch.cuda.mem_get_info(lm.device)[0] // 2 if lm.device.type == "cuda" else CACHE_BYTES
    return min(max(memory / (token_budget * a_token), 1.0), MOST_ANSWERS)


def end_tokens(lm: LanguageModel) -> frozenset[int]:
    """The token ids that end a text: those of the generation configuration, the configuration and the tokenizer."""
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

    A token can complete a stop string only if its text contains the string's last character. `may_complete` checks
    that for one token and caches the result; a row is decoded only after such a token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> None:
        if "" in stops:
            raise AuditError("a stop string must not be empty; leave it out of Decoding.stop instead.")
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._last_characters = {stop[-1] for stop in stops}
        self._known: dict[int, bool] = {}

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's token ids, without special tokens."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def may_complete(self, token: int) -> bool:
        """Whether a stop string can end within this token."""
        known = self._known.get(token)
        if known is None:
            text = self.decode([token])
            # U+FFFD stands for part of a character. Decoding a single token may drop its leading space.
            known = "�" in text or any(last == " " or last in text for last in self._last_characters)
            self._known[token] = known
        return known and bool(self._stops)

    def cut(self, text: str) -> tuple[str, bool]:
        """The text before the earliest stop string that counts (see `Decoding`), and whether there is one."""
        answer = after_thinking(text)
        if answer is None:
            return text, False
        begin = len(text) - len(answer)
        visible = len(text) - len(answer.lstrip())
        found = [text.find(stop, begin if stop.strip() else visible) for stop in self._stops]
        starts = [start for start in found if start >= 0]
        return (text[: min(starts)], True) if starts else (text, False)


def _generate_batch(
    forward: CausalForward,
    contents: Sequence[tuple[Sequence[int], Sequence[int]]],
    room: Sequence[int],
    stopping: StopStrings,
    ends: frozenset[int],
    prefix: Prefix | None,
) -> list[GeneratedText]:
    """Answer (prompt, opening) rows in one batch; row i gets at most room[i] tokens. Finished rows leave the batch."""
    texts: list[str | None] = [None] * len(contents)
    written = [list(opening) for _, opening in contents]
    rows = list(range(len(contents)))  # rows[k] is the prompt in the k-th row of the tensors
    start = prefill(forward, [(*prompt, *opening) for prompt, opening in contents], prefix)
    width = start.mask.shape[1]
    steps = max(new - len(opening) for new, (_, opening) in zip(room, contents, strict=True))
    mask = torch.nn.functional.pad(start.mask, (0, steps), value=1)  # (rows, width + steps)
    cache = start.cache
    tokens = _argmax(start.logits).to(forward.device)  # (rows,)
    unread = [tokens]
    most_unread = STEPS_UNREAD.get(forward.device.type, UNREAD)

    for step in range(1, steps + 1):
        if len(unread) == most_unread or step == steps:
            for column in torch.stack(unread).tolist():
                for row, token in zip(rows, column, strict=True):
                    if texts[row] is None:
                        texts[row] = next_token(written[row], token, room[row], stopping, ends)
            unread.clear()
            staying = _rows_to_keep([texts[row] is None for row in rows])
            if not staying:
                break
            if len(staying) < len(rows):
                kept = torch.tensor(staying, device=tokens.device)
                tokens, mask = tokens[kept], mask[kept]
                cache.batch_select_indices(kept)
                rows = [rows[k] for k in staying]
        ids = tokens.clamp(min=0).unsqueeze(1)  # (rows, 1)
        logits = forward(ids, mask[:, : width + step], cache, keep=1)
        tokens = _argmax(logits[:, -1]).to(forward.device)
        unread.append(tokens)
    return [GeneratedText(text or "", tuple(ids)) for text, ids in zip(texts, written, strict=True)]


def _argmax(logits: Tensor) -> Tensor:
    """The next token of every row, (rows,), or `BROKEN`; `logits` are (rows, vocabulary)."""
    best, tokens = logits.max(dim=-1)  # a NaN in the row makes the maximum NaN
    return tokens.masked_fill(~best.isfinite(), BROKEN)


def _rows_to_keep(is_open: Sequence[bool]) -> list[int]:
    """The rows that stay in the batch: none if all are finished, all if few are, otherwise the open ones.

    Removing rows copies the cache, so it waits until a fifth of them can go. The rest is filled up with finished rows
    to a multiple of `ROWS_AT_ONCE`, because the first matrix product with a new number of rows is slow.
    """
    open_rows = [k for k, one in enumerate(is_open) if one]
    size = min(-(-len(open_rows) // ROWS_AT_ONCE) * ROWS_AT_ONCE, len(is_open))
    if not open_rows or size > 0.8 * len(is_open):
        return open_rows and list(range(len(is_open)))
    finished = [k for k, one in enumerate(is_open) if not one]
    return sorted([*open_rows, *finished[: size - len(open_rows)]])


def next_token(written: list[int], token: int, room: int, stopping: StopStrings, ends: frozenset[int]) -> str | None:
    """Append a token to an answer; return the whole text if the answer ends there, otherwise None.

    If `token` is `BROKEN`, the answer is "" and `written` is cleared.
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
