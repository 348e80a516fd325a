"""The blocks that no edit touches, run once for the base model and all edited ones.

    states = LowerStates(first_edited=6)
    base = rank(lm, prompts, choices, forward=states.forward(lm))
    with patch.applied(lm):
        edited = rank(lm, prompts, choices, forward=states.forward(lm))  # runs blocks 6 and above only

What enters the first edited block depends on the tokens alone, so it is kept by row of token ids, and the next model
that is asked the same row begins there. All models must be equal below `first_edited`; nothing here can check that.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from audit.engine.forward import CausalForward
from audit.engine.growing_cache import GrowingLayer
from audit.engine.saving import Saving
from audit.models.forward_overrides import block_skipped, input_replaced, tuple_length
from audit.models.language_model import LanguageModel

LIMIT_BYTES = 2 << 30  # of hidden states kept on the CPU, where nothing else is said

Row = tuple[bytes, int]  # all token ids up to a row's end (int32), and the number of the first that is new


class LowerStates:
    """Hidden states that enter block `first_edited`, on the CPU in the model's dtype.

    Args:
        first_edited: the lowest block in which any two of the models differ; 0 shares nothing, the model's depth leaves
            the final norm and the head to run.
        limit_bytes: what does not fit into this is not kept, and computed whenever it is needed.
    """

    def __init__(self, first_edited: int, limit_bytes: int = LIMIT_BYTES) -> None:
        self.first_edited = first_edited
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self.full = False  # whether something did not fit
        self.tuple_length = 0  # of what this model's blocks return
        self._known: dict[Row, Tensor] = {}

    def forward(self, lm: LanguageModel, saving: Saving | None = None) -> "FromLowerStates":
        """Calls of `lm` as it is now, counted in `saving`."""
        return FromLowerStates(lm, self, saving)

    def get(self, row: Row) -> Tensor | None:
        """(new tokens, hidden_size), or None."""
        return self._known.get(row)

    def keep(self, row: Row, state: Tensor) -> None:
        """Keep a copy of (new tokens, hidden_size) if there is room for it."""
        size = state.numel() * state.element_size()
        if row in self._known:
            return
        if self.bytes + size > self.limit_bytes:
            self.full = True
            return
        self._known[row] = state.to("cpu", copy=True)
        self.bytes += size

    def forget(self) -> None:
        """Make room: the rows so far will not be asked again."""
        self._known.clear()
        self.bytes, self.full = 0, False


class FromLowerStates(CausalForward):
    """A forward that starts at the first edited block where the states of all rows of a call are known.

    Otherwise it is the whole model's, and the states are kept.
    """

    def __init__(self, lm: LanguageModel, states: LowerStates, saving: Saving | None = None) -> None:
        super().__init__(lm)
        self._states = states
        self._saving = saving
        anatomy, start = lm.anatomy, states.first_edited
        self._depth = anatomy.depth
        self._lower = [lm.model.get_submodule(path) for path in anatomy.blocks[:start]]
        self._entry = lm.model.get_submodule(anatomy.blocks[start] if start < anatomy.depth else anatomy.final_norm)

    def new_cache(self) -> DynamicCache:
        cache = super().new_cache()
        return _CacheOfRows(cache) if self._lower else cache

    @torch.no_grad()
    def __call__(self, ids: Tensor, mask: Tensor, cache: DynamicCache | None = None, *, keep: int) -> Tensor:
        if not self._lower:
            self._count(mask, ids, 0)
            return super().__call__(ids, mask, cache, keep=keep)
        assert cache is None or (isinstance(cache, _CacheOfRows) and cache.knows(mask.shape[1] - ids.shape[1]))
        before = cache.rows if cache is not None and cache.rows else [b""] * len(ids)
        begun_above = cache is not None and cache.begun_above
        new = mask[:, -ids.shape[1] :].bool()  # (rows, new)
        rows = _rows(ids, new, before)
        states = [self._states.get(row) for row in rows]
        known = [state for state in states if state is not None]
        # Where states were left out, a beginning that is known may go on to an end that is not.
        begins = cache is not None and not cache.rows
        if len(known) == len(rows) and not (begins and self._states.full):
            logits = self._above(ids, mask, cache, keep, new, known)
        elif begun_above:
            logits = self._above(ids, mask, cache, keep, new, self._run_again(rows, states))
        else:
            logits, _ = self._whole(ids, mask, cache, keep, new, rows)
        if cache is not None:
            cache.rows = [row for row, _ in rows]
        return logits

    def _whole(
        self, ids: Tensor, mask: Tensor, cache: DynamicCache | None, keep: int, new: Tensor, rows: Sequence[Row]
    ) -> tuple[Tensor, list[Tensor]]:
        """All blocks; hands back what entered the first edited one as well, and keeps it."""
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
        cache: "_CacheOfRows | None",
        keep: int,
        new: Tensor,
        states: Sequence[Tensor],
    ) -> Tensor:
        """The blocks from the first edited one on."""
        joined = torch.cat(list(states)).to(next(self._entry.parameters()).device)  # (tokens of all rows, hidden_size)
        hidden = joined.new_zeros(*ids.shape, joined.shape[-1])  # (rows, new, hidden_size); padding stays zero
        hidden[new.to(hidden.device)] = joined
        with ExitStack() as detours:
            for block in self._lower:
                detours.enter_context(block_skipped(block, self._states.tuple_length))
            detours.enter_context(input_replaced(self._entry, hidden))
            logits = super().__call__(ids, mask, cache, keep=keep)
        if cache is not None:
            cache.lengthen(range(len(self._lower)), hidden)
        self._count(mask, ids, len(self._lower))
        return logits

    def _run_again(self, rows: Sequence[Row], states: Sequence[Tensor | None]) -> list[Tensor]:
        """States of rows whose beginning was known and whose end was not, one by one: nothing that is asked twice in
        the same way comes here."""
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
        if self._saving is not None:
            tokens = int(mask[:, -ids.shape[1] :].sum())
            self._saving.shared += tokens * skipped
            self._saving.computed += tokens * (self._depth - skipped)


class _RowsLayer(GrowingLayer):  # type: ignore[no-untyped-call]
    """Of a cache that knows its rows: nothing may be put together from parts of it behind its back."""


class _CacheOfRows(DynamicCache):
    """A cache that knows which tokens its rows stand for, and whether a call began above the lower blocks.

    Then their layers hold columns that mean nothing, and every further call must begin above them.
    """

    def __init__(self, empty: DynamicCache) -> None:
        super().__init__()
        self.layers = [_RowsLayer() if type(layer) is GrowingLayer else layer for layer in empty.layers]
        self.layer_class_to_replicate = empty.layer_class_to_replicate
        self.rows: list[bytes] = []
        self.begun_above = False

    def knows(self, columns: int) -> bool:
        """Whether its rows are all that its columns hold."""
        return bool(self.rows) == (columns > 0)

    def lengthen(self, layers: Iterable[int], hidden: Tensor) -> None:
        """Add columns that nobody will look at, as many as `hidden` (rows, new, hidden_size) has."""
        for number in layers:
            layer: Any = self.layers[number] if number < len(self.layers) else None
            begun = layer is not None and layer.is_initialized
            heads, width = (layer.keys.shape[1], layer.keys.shape[3]) if begun else (1, 1)
            nothing = hidden.new_zeros(len(hidden), heads, hidden.shape[1], width)
            self.update(nothing, nothing, number)
        self.begun_above = True

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self.rows = [self.rows[row] for row in indices.tolist()]


def _rows(ids: Tensor, new: Tensor, before: Sequence[bytes]) -> list[Row]:
    """The rows of a call, without their padding, after what the cache holds of them."""
    plain, real = ids.to("cpu", torch.int32), new.cpu()
    return [
        (past + row[kept].numpy().tobytes(), len(past) // plain.element_size())
        for row, kept, past in zip(plain, real, before, strict=True)
    ]
