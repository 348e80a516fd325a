"""Batches of similar length under a token budget, their padding, and smaller batches when memory runs out."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from audit.errors import AuditError
from audit.models.language_model import LanguageModel

TOKEN_BUDGET = 8192
# The most logits that one call computes: 256 MB in float32, whatever the vocabulary.
LOGITS = 64 << 20
# Batches that are still open for further entries: entries that fit together have similar sizes, so few are enough.
OPEN_BATCHES = 16


def context_length(lm: LanguageModel) -> int | None:
    """The longest sequence that the model was built for, in tokens, or None if its configuration sets no limit."""
    config = lm.model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return None


def require_room(lm: LanguageModel, ids: Sequence[int], what: str, text: str, *, new_tokens: int = 0) -> None:
    """Raise `AuditError` if `ids` is empty, or leaves no room for `new_tokens` more in the model's context.

    Nothing is truncated silently: a prompt without its beginning is another prompt. `what` names the sequence in the
    error, and `text` is its text.
    """
    if not ids:
        raise AuditError(
            f"{what} is empty and the tokenizer of {lm.name} adds no beginning-of-text token, "
            f"so the model has nothing to continue; give it at least one word."
        )
    limit = context_length(lm)
    if limit is not None and len(ids) + new_tokens > limit:
        extra = f" and needs room for {new_tokens} more" if new_tokens else ""
        raise AuditError(
            f"{what} ({text[:60]!r}...) has {len(ids)} tokens{extra}, but the context of {lm.name} holds {limit}; "
            f"shorten it, leave it out, or choose a model with a longer context."
        )


def pack(
    sizes: Sequence[int], token_budget: int, scored: Sequence[int] | None = None, most_scored: int | None = None
) -> list[list[int]]:
    """Group entries of similar size into batches, largest first, so that there is little padding.

    A batch holds at most `token_budget` tokens including padding, and at most `most_scored` tokens whose logits are
    computed (`scored[i]` for entry i), or a single entry. The order depends only on the sizes.
    """
    _require_budget(token_budget)
    batches: list[list[int]] = []
    width = logits = 0
    for entry in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        more = 0 if scored is None else scored[entry]
        fits = most_scored is None or logits + more <= most_scored
        if batches and fits and (len(batches[-1]) + 1) * width <= token_budget:
            batches[-1].append(entry)
            logits += more
        else:
            batches.append([entry])
            width, logits = max(sizes[entry], 1), more
    return batches


@dataclass(frozen=True)
class Load:
    """The tokens of an entry: `shared` ones in a first call, then rows of at most `longest` each in a second one.

    `scored` is the number of places whose logits are computed.
    """

    shared: int
    rows: int
    longest: int
    scored: int

    @property
    def tokens(self) -> int:
        """All tokens, with the padding of shorter rows."""
        return self.shared + self.rows * self.longest


@dataclass
class _Batch:
    """A batch that grows: its entries, how many rows they have, and their longest shared part and row."""

    entries: list[int] = field(default_factory=list)
    rows: int = 0
    shared: int = 0
    longest: int = 0
    scored: int = 0

    def tokens_with(self, load: Load) -> int:
        """The tokens of both calls, with all padding, if `load` joins."""
        first = (len(self.entries) + 1) * max(self.shared, load.shared)
        return first + (self.rows + load.rows) * max(self.longest, load.longest)

    @property
    def tokens(self) -> int:
        return len(self.entries) * self.shared + self.rows * self.longest

    def add(self, entry: int, load: Load) -> None:
        self.entries.append(entry)
        self.rows, self.scored = self.rows + load.rows, self.scored + load.scored
        self.shared, self.longest = max(self.shared, load.shared), max(self.longest, load.longest)


def pack_loads(
    loads: Sequence[Load], token_budget: int, most_scored: int, most_padding: int | None = None
) -> list[list[int]]:
    """Group entries into batches with little padding in either of two calls, the largest entries first.

    An entry joins the batch whose padding grows least, if it grows by at most `most_padding` tokens (None: any). A
    batch holds at most `token_budget` tokens including padding, and at most `most_scored` places, or a single entry.
    The result depends only on the loads.
    """
    _require_budget(token_budget)
    batches: list[_Batch] = []
    for entry in sorted(range(len(loads)), key=lambda i: (-loads[i].tokens, i)):
        load = loads[entry]
        fitting = []
        for at, batch in enumerate(batches[-OPEN_BATCHES:]):
            tokens = batch.tokens_with(load)
            padding = tokens - batch.tokens - load.tokens
            has_room = tokens <= token_budget and batch.scored + load.scored <= most_scored
            if has_room and (most_padding is None or padding <= most_padding):
                fitting.append((padding, at, batch))
        if fitting:
            _, _, chosen = min(fitting)
        else:
            chosen = _Batch()
            batches.append(chosen)
        chosen.add(entry, load)
    return [batch.entries for batch in batches]


def _require_budget(token_budget: int) -> None:
    if token_budget < 1:
        raise AuditError(
            f"The token budget must be at least 1, not {token_budget}; leave it out to use {TOKEN_BUDGET}."
        )


def most_places(lm: LanguageModel) -> int:
    """The number of places whose logits one call may compute: `LOGITS` in all, and at least one place."""
    return max(1, LOGITS // int(lm.model.config.get_text_config().vocab_size))


def run_batches(batches: Iterable[list[int]], run: Callable[[list[int]], None]) -> None:
    """Call `run` on every batch; if one exceeds the device's memory, halve it and all that follow.

    `run` must store its results by entry, so that a second attempt overwrites the first. Raises `AuditError` if a
    single entry does not fit into the memory.
    """
    waiting = deque(batches)
    while waiting:
        batch = waiting.popleft()
        try:
            run(batch)
            continue
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise AuditError(
                    "A single item does not fit into the memory of the device; "
                    "use a smaller dtype (bfloat16), a smaller model, or a device with more memory."
                ) from error
        # Outside the handler, because the exception holds references to the tensors of the failed attempt.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        waiting = deque(half for whole in (batch, *waiting) for half in _halves(whole))


def _halves(batch: list[int]) -> list[list[int]]:
    middle = len(batch) // 2
    return [half for half in (batch[:middle], batch[middle:]) if half]


def padded(rows: Sequence[Sequence[int]], side: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Stack rows of token ids, padded on `side`, "left" or "right".

    Returns ids and attention mask, both (rows, longest), int64. The padding id is 0; the mask hides it, so the
    tokenizer needs no padding token.
    """
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros(len(rows), width, dtype=torch.int64)
    for i, row in enumerate(rows):
        columns = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, columns] = torch.tensor(row, dtype=torch.int64)
        mask[i, columns] = 1
    return ids.to(device), mask.to(device)  # (rows, longest) twice
