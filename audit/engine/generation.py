"""Greedy answers in batches: the same text for a prompt, whichever prompts it is computed with."""

from collections.abc import Iterable, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from audit.abilities.contract import Decoding
from audit.engine.batching import TOKEN_BUDGET, Progress, context_length, pack, padded, require_room, run_batches
from audit.engine.forward import CausalForward
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.tokens import encode

_BROKEN = -1  # stands for a next token where no logit was finite


def generate(
    lm: LanguageModel,
    prompts: Sequence[str],
    decoding: Decoding,
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress | None = None,
) -> list[str]:
    """Continue every prompt greedily; return the new text alone, in the order of the prompts.

    A text ends before the first stop string, before an end-of-text token, after `decoding.max_new_tokens`, or at the
    end of the model's context. It is "" when the model's logits stop being finite on the way (a collapsed edit).
    A batch holds at most `token_budget` tokens (prompt, padding and answer); identical prompts are computed once.

    Raises:
        AuditError: a prompt is empty or leaves no room for an answer in the context; it is named by its number.
    """
    if decoding.max_new_tokens < 1:
        raise AuditError(f"max_new_tokens must be at least 1, not {decoding.max_new_tokens}; an answer needs a token.")
    rows: dict[tuple[int, ...], list[int]] = {}  # token ids -> the prompts that read so
    for number, prompt in enumerate(prompts):
        ids = tuple(encode(lm.tokenizer, lm.asked(prompt)))
        require_room(lm, ids, f"Prompt {number}", prompt, new_tokens=1)
        rows.setdefault(ids, []).append(number)

    contents = list(rows)
    limit = context_length(lm)
    room = [
        decoding.max_new_tokens if limit is None else min(decoding.max_new_tokens, limit - len(ids)) for ids in contents
    ]
    batches = pack([len(ids) + new for ids, new in zip(contents, room, strict=True)], token_budget)
    answers: dict[int, str] = {}
    forward = CausalForward(lm)
    stopping = StopStrings(lm.tokenizer, decoding.stop)
    ends = end_tokens(lm)

    def run(batch: list[int]) -> None:
        texts = _generate_batch(forward, [contents[i] for i in batch], [room[i] for i in batch], stopping, ends)
        for i, text in zip(batch, texts, strict=True):
            answers.update(dict.fromkeys(rows[contents[i]], text))
        if progress is not None:
            progress(len(answers), len(prompts))

    run_batches(batches, run)
    return [answers[number] for number in range(len(prompts))]


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
    prompts: Sequence[Sequence[int]],
    room: Sequence[int],
    stopping: StopStrings,
    ends: frozenset[int],
) -> list[str]:
    """Answer prompts together; row i gets at most room[i] tokens. Rows that finish leave the batch."""
    texts: list[str | None] = [None] * len(prompts)
    written: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # rows[k] is the prompt in the k-th row of the tensors
    ids, prompt_mask = padded(prompts, "left", forward.device)  # (rows, width) twice
    width = ids.shape[1]
    mask = torch.nn.functional.pad(prompt_mask, (0, max(room)), value=1)  # (rows, width + room)
    cache = forward.new_cache()

    for step in range(max(room)):
        logits = forward(ids, mask[:, : width + step], cache, keep=1)[:, -1]  # (rows, vocabulary)
        best, tokens = logits.max(dim=-1)  # (rows,) twice; NaN wins every maximum, so `best` shows it
        tokens = tokens.masked_fill(~best.isfinite(), _BROKEN)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if texts[row] is None:
                texts[row] = _next_token(written[row], token, room[row], stopping, ends)

        alive = [k for k, row in enumerate(rows) if texts[row] is None]
        if not alive:
            break
        # Leaving costs a copy of the cache, so finished rows stay until a quarter of the batch can go.
        if len(alive) <= 0.75 * len(rows):
            staying = torch.tensor(alive, device=tokens.device)
            tokens, mask = tokens[staying], mask[staying]
            cache.batch_select_indices(staying)
            rows = [rows[k] for k in alive]
        ids = tokens.clamp(min=0).unsqueeze(1)  # (rows, 1)
    return [text if text is not None else "" for text in texts]


def _next_token(written: list[int], token: int, room: int, stopping: StopStrings, ends: frozenset[int]) -> str | None:
    """Add a token to a row; return the row's whole text if that ends it, else None."""
    if token == _BROKEN:
        return ""
    if token in ends:
        return stopping.cut(stopping.decode(written))[0]
    written.append(token)
    if len(written) < room and not stopping.may_complete(token):
        return None
    text, stopped = stopping.cut(stopping.decode(written))
    return text if stopped or len(written) == room else None
