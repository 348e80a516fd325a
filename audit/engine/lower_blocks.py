"""Share the blocks below the first edited one: run them once for the base model and all edited models.

    states = LowerStates(first_edited=6)
    base = rank(lm, prompts, choices, forward=states.forward(lm))
    with patch.applied(lm):
        edited = rank(lm, prompts, choices, forward=states.forward(lm))  # runs blocks 6 and above only

The hidden states that enter the first edited block depend only on the tokens, so they are stored by row of token ids,
and the next model starts there for the same row. All models must be equal below `first_edited`; this is not checked.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from audit.engine.forward import CausalForward, GrowingLayer, Places
from audit.engine.reuse_counts import ReuseCounts
from audit.models.forward_overrides import block_skipped, input_replaced, tuple_length
from audit.models.language_model import LanguageModel

LIMIT_BYTES = 2 << 30  # default limit for the stored hidden states

Row = tuple[bytes, int]  # all token ids up to a row's end (int32), and the index of its first new token


class LowerStates:
    """The stored hidden states that enter block `first_edited`, on the CPU in the model's dtype.

    Args:
        first_edited: the lowest block in which any two of the models differ. With 0 nothing is shared; with the model's
            depth only the final norm and the head are run.
        limit_bytes: the size up to which states are stored; further states are computed again.
    """

    def __init__(self, first_edited: int, limit_bytes: int = LIMIT_BYTES) -> None:
        self.first_edited = first_edited
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self.full = False  # whether a state was not stored for lack of room
        self.tuple_length = 0  # of the tuple that this model's blocks return
        self._known: dict[Row, Tensor] = {}

    def forward(self, lm: LanguageModel, counts: ReuseCounts | None = None) -> "FromLowerStates":
        """A forward of `lm` with the patches that are applied now; its work is added to `counts`."""
        return FromLowerStates(lm, self, counts)

    def get(self, row: Row) -> Tensor | None:
        """The states of a row, (new tokens, hidden_size), or None."""
        return self._known.get(row)

    def keep(self, row: Row, state: Tensor) -> None:
        """Store a copy of a row's states, (new tokens, hidden_size), if there is room for it."""
        size = state.numel() * state.element_size()
        if row in self._known:
            return
        if self.bytes + size > self.limit_bytes:
            self.full = True
            return
        self._known[row] = state.to("cpu", copy=True)
        self.bytes += size

    def forget(self) -> None:
        """Drop all states, for prompts that will not be used again."""
        self._known.clear()
        self.bytes, self.full = 0, False


class FromLowerStates(CausalForward):
    """A forward that starts at the first edited block if the states of all rows of the call are stored.

    Otherwise it runs the whole model and stores the states. If an earlier call with the same cache started at the first
    edited block, missing states are computed row by row instead.
    """

    def __init__(self, lm: LanguageModel, states: LowerStates, counts: ReuseCounts | None = None) -> None:
        super().__init__(lm)
        self._states = states
        self._counts = counts
        anatomy, start = lm.anatomy, states.first_edited
        self._depth = anatomy.depth
        self._lower = [lm.model.get_submodule(path) for path in anatomy.blocks[:start]]
        self._entry = lm.model.get_submodule(anatomy.blocks[start] if start < anatomy.depth else anatomy.final_norm)

    def new_cache(self) -> DynamicCache:
        """An empty cache, which also holds the token ids of its rows if blocks below are left out."""
        cache = super().new_cache()
        return _RowCache(cache) if self._lower else cache

    @torch.no_grad()
    def __call__(self, ids: Tensor, mask: Tensor, cache: DynamicCache | None = None, *, keep: int | Places) -> Tensor:
        if not self._lower:
            self._count(mask, ids, 0)
            return super().__call__(ids, mask, cache, keep=keep)
        assert cache is None or (isinstance(cache, _RowCache) and cache.knows(mask.shape[1] - ids.shape[1]))
        before = cache.rows if cache is not None and cache.rows else [b""] * len(ids)
        started_above = cache is not None and cache.started_above
        new = mask[:, -ids.shape[1] :].bool()  # (rows, new)
        rows = _rows(ids, new, before)
        states = [self._states.get(row) for row in rows]
        known = [state for state in states if state is not None]
        # When states were left out, a row may have a stored beginning and an end that is not stored.
        starts_cache = cache is not None and not cache.rows
        if len(known) == len(rows) and not (starts_cache and self._states.full):
            logits = self._above(ids, mask, cache, keep, new, known)
        elif started_above:
            logits = self._above(ids, mask, cache, keep, new, self._recomputed(rows, states))
        else:
            logits, _ = self._whole(ids, mask, cache, keep, new, rows)
        if cache is not None:
            cache.rows = [row for row, _ in rows]
        return logits

    def _whole(
        self,
        ids: Tensor,
        mask: Tensor,
        cache: DynamicCache | None,
        keep: int | Places,
        new: Tensor,
        rows: Sequence[Row],
    ) -> tuple[Tensor, list[Tensor]]:
        """Run all blocks; returns the logits and the states that enter the first edited block, which are stored."""
        entering: list[Tensor] = []

        def see(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            entering.append(args[0] if args else kwargs["hidden_states"])  # (rows, new, hidden_size)

        def see_output(_: nn.Module, __: Any, output: Any) -> None:
            self._states.tuple_length = tuple_length(output)

        with ExitStack() as hooks:
            hooks.callback(self._entry.register_forward_pre_hook(see, with_kwargs=True).remove)
            hooks.callback(self._lower[0].register_forward_hook(see_output).remove)
            logits = super().__call__(ids, mask, cache, keep=keep)
        (hidden,) = entering
        joined = hidden[new.to(hidden.device)]  # (tokens of all rows, hidden_size)
        states = list(torch.split(joined, new.sum(1).tolist()))
        for row, state in zip(rows, states, strict=True):
            self._states.keep(row, state)
        self._count(mask, ids, 0)
        return logits, states

    def _above(
        self,
        ids: Tensor,
        mask: Tensor,
        cache: "_RowCache | None",
        keep: int | Places,
        new: Tensor,
        states: Sequence[Tensor],
    ) -> Tensor:
        """Run the blocks from the first edited one on."""
        joined = torch.cat(list(states)).to(next(self._entry.parameters()).device)  # (tokens of all rows, hidden_size)
        hidden = joined.new_zeros(*ids.shape, joined.shape[-1])  # (rows, new, hidden_size); padding stays zero
        hidden[new.to(hidden.device)] = joined
        with ExitStack() as overrides:
            for block in self._lower:
                overrides.enter_context(block_skipped(block, self._states.tuple_length))
            overrides.enter_context(input_replaced(self._entry, hidden))
            logits = super().__call__(ids, mask, cache, keep=keep)
        if cache is not None:
            cache.lengthen(range(len(self._lower)), hidden)
        self._count(mask, ids, len(self._lower))
        return logits

    def _recomputed(self, rows: Sequence[Row], states: Sequence[Tensor | None]) -> list[Tensor]:
        """All states; the missing ones (of rows whose beginning alone was stored) are computed row by row."""
        found = []
        for (row, start), state in zip(rows, states, strict=True):
            if state is None:
                ids = torch.frombuffer(bytearray(row), dtype=torch.int32).to(self.device, torch.int64)[None]  # (1, all)
                every = torch.ones_like(ids)
                _, (whole,) = self._whole(ids, every, None, 1, every.bool(), [(row, 0)])
                state = whole[start:].cpu()
            found.append(state)
        return found

    def _count(self, mask: Tensor, ids: Tensor, skipped: int) -> None:
        if self._counts is not None:
            tokens = int(mask[:, -ids.shape[1] :].sum())
            self._counts.block_tokens += tokens * self._depth
            self._counts.block_tokens_shared += tokens * skipped


class _RowsLayer(GrowingLayer):  # type: ignore[no-untyped-call]
    """A layer of a `_RowCache`. Its own class, so that `keeps_everything` is False and the cache is never stacked."""


class _RowCache(DynamicCache):
    """A cache that tracks the token ids of its rows, and whether a call started above the lower blocks.

    After such a call the lower layers hold placeholder columns, so every later call must start above them too.
    """

    def __init__(self, empty: DynamicCache) -> None:
        super().__init__()
        self.layers = [_RowsLayer() if type(layer) is GrowingLayer else layer for layer in empty.layers]
        self.layer_class_to_replicate = empty.layer_class_to_replicate
        self.rows: list[bytes] = []
        self.started_above = False

    def knows(self, columns: int) -> bool:
        """Whether the tracked rows cover all `columns` of the cache."""
        return bool(self.rows) == (columns > 0)

    def lengthen(self, layers: Iterable[int], hidden: Tensor) -> None:
        """Append placeholder columns to these layers, one for each new token of `hidden` (rows, new, hidden_size)."""
        for number in layers:
            layer: Any = self.layers[number] if number < len(self.layers) else None
            filled = layer is not None and layer.is_initialized
            heads, width = (layer.keys.shape[1], layer.keys.shape[3]) if filled else (1, 1)
            nothing = hidden.new_zeros(len(hidden), heads, hidden.shape[1], width)
            self.update(nothing, nothing, number)
        self.started_above = True

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self.rows = [self.rows[row] for row in indices.tolist()]


def _rows(ids: Tensor, new: Tensor, before: Sequence[bytes]) -> list[Row]:
    """The rows of a call without padding, each appended to the ids `before` it in the cache."""
    plain, real = ids.to("cpu", torch.int32), new.cpu()
    return [
        (past + row[kept].numpy().tobytes(), len(past) // plain.element_size())
        for row, kept, past in zip(plain, real, before, strict=True)
    ]
