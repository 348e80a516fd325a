"""One call of the model with explicit masks and positions, logits of the last positions only, and a growing cache.

forward = CausalForward(lm)
cache = forward.new_cache()
logits = forward(ids, mask, cache, keep=1)       # (rows, 1, vocabulary): the next token after a prompt
logits = forward(next_ids, longer_mask, cache, keep=1)
logits = forward(ids, mask, keep=Places(rows, columns))  # (places, vocabulary)
"""

import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from audit.engine.batching import context_length
from audit.models.forward_overrides import forwards_replaced, head_at, inference_forwards
from audit.models.language_model import LanguageModel


class Places(NamedTuple):
    """Places in a call's tokens: place i is in row `rows[i]` and column `columns[i]`; both are (places,), int64."""

    rows: Tensor
    columns: Tensor


class CausalForward:
    """Calls a model with explicit masks and positions.

    The logits come from the model's own head, so that they include each family's scaling, soft-capping and biases.
    The head runs at the last positions or at given places only.
    """

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm
        self.model = lm.model
        self._lean = inference_forwards(lm.model)
        self.device = lm.device
        accepted = inspect.signature(type(lm.model).forward).parameters
        # BLOOM and MPT take no positions: they derive attention biases from the mask.
        self.takes_positions = "position_ids" in accepted
        limit = context_length(lm)
        self.last_position = None if limit is None else limit - 1
        self.takes_keep = "logits_to_keep" in accepted

    def new_cache(self) -> DynamicCache:
        """An empty key-value cache; layers with sliding windows keep only their window."""
        return growing_cache(self.lm)

    @torch.no_grad()
    def __call__(self, ids: Tensor, mask: Tensor, cache: DynamicCache | None = None, *, keep: int | Places) -> Tensor:
        """Logits in the model's dtype: of the last `keep` positions, (rows, keep, vocabulary), or (places, vocabulary).

        `ids` (rows, new) are the tokens to compute. `mask` (rows, past + new) is 1 for tokens and 0 for padding; it
        covers the cache too. A token's position is the number of tokens (not columns) before it.
        """
        rows, new = ids.shape
        arguments = {"input_ids": ids, "use_cache": cache is not None}
        if cache is not None:
            arguments["past_key_values"] = cache
        # Padding behind a row's tokens is invisible to them. Without a mask, attention skips the pairs that causality
        # forbids.
        needs_mask = cache is not None or not _is_padded_right(mask)
        if needs_mask:
            arguments["attention_mask"] = mask
        if self.takes_positions:
            if needs_mask:
                # Finished rows that have not left their batch may run past the context; their tokens are not used.
                counted = mask.sum(dim=1, keepdim=True) if new == 1 else mask.cumsum(dim=1)[:, -new:]
                arguments["position_ids"] = (counted - 1).clamp_(min=0, max=self.last_position)  # (rows, new)
            else:
                arguments["position_ids"] = torch.arange(new, device=ids.device).expand(rows, new)
        with ExitStack() as changes:
            changes.enter_context(forwards_replaced(self._lean))
            if isinstance(keep, Places):
                changes.enter_context(head_at(self.model, keep.rows, keep.columns))
            elif self.takes_keep:
                arguments["logits_to_keep"] = keep
            logits: Tensor = self.model(**arguments).logits
        return logits if isinstance(keep, Places) else logits[:, -keep:]


def _is_padded_right(mask: Tensor) -> bool:
    """Whether no row of a mask (rows, columns) has a token after padding."""
    return bool((mask[:, 1:] <= mask[:, :-1]).all())


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """The keys and values of one layer, (rows, heads, columns, head_dim), as the first columns of a larger tensor.

    A new token is written into the spare columns, while `DynamicLayer` copies all keys and values at every step. When a
    call after the first needs more room, the tensor grows by half, and by at least `SPARE` spare columns. `keys` and
    `values` are views of the columns in use, so cropping copies nothing.
    """

    SPARE = 32

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room: tuple[Tensor, Tensor] | None = None  # of which `keys` and `values` are the first columns

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append columns and return all keys and values so far."""
        if self.keys is None or self.values is None:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.keys, self.values, self.is_initialized = key_states, value_states, True
            return self.keys, self.values
        before = self.keys.shape[-2]
        after = before + key_states.shape[-2]
        if self._room is None or after > self._room[0].shape[-2]:
            spare = max(self.SPARE, after // 2)
            self._room = _enlarged(self.keys, after + spare), _enlarged(self.values, after + spare)
        for room, fresh in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, before:after].copy_(fresh)
        self.keys, self.values = (room[:, :, :after] for room in self._room)
        return self.keys, self.values

    def take(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Replace the contents with these rows, aligned at their last columns."""
        (key_room, columns), (value_room, _) = _concatenated(keys, self.SPARE), _concatenated(values, self.SPARE)
        self._room = key_room, value_room
        self.keys, self.values = key_room[:, :, :columns], value_room[:, :, :columns]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order; a row may occur more than once."""
        if self._room is None:
            super().batch_select_indices(indices)
            return
        columns = self.get_seq_length()
        keys, values = (room.index_select(0, indices.to(room.device)) for room in self._room)
        self._room = keys, values
        self.keys, self.values = keys[:, :, :columns], values[:, :, :columns]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """The same as `batch_select_indices`."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row `repeats` times."""
        self.batch_select_indices(torch.arange(len(filled(self)[0]), device=self.device).repeat_interleave(repeats))

    def reset(self) -> None:
        """Drop all keys and values."""
        self._room = None
        super().reset()


def growing_cache(lm: LanguageModel) -> DynamicCache:
    """An empty cache for this model; sliding-window layers and layers without keys and values keep their own class."""
    cache = DynamicCache(config=lm.model.config)
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = GrowingLayer
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def keeps_everything(cache: DynamicCache) -> bool:
    """Whether every layer keeps the keys and values of all tokens, so that caches can be stacked."""
    return bool(cache.layers) and all(type(layer) is GrowingLayer for layer in cache.layers)


def filled(layer: object) -> tuple[Tensor, Tensor]:
    """The keys and values of a `GrowingLayer` that is not empty, (rows, heads, columns, head_dim) each."""
    assert isinstance(layer, GrowingLayer) and layer.keys is not None and layer.values is not None
    return layer.keys, layer.values


def stacked(caches: Sequence[DynamicCache]) -> DynamicCache:
    """Move the rows of all caches into the first, aligned at their last columns; every layer is a `GrowingLayer`.

    The columns before a shorter row are 0; the attention mask must hide them.
    """
    first = caches[0]
    for at, layer in enumerate(first.layers):
        assert isinstance(layer, GrowingLayer)
        keys, values = zip(*(filled(cache.layers[at]) for cache in caches), strict=True)
        layer.take(keys, values)
        for cache in caches[1:]:
            cache.layers[at].reset()
    return first


def _concatenated(parts: Sequence[Tensor], spare: int) -> tuple[Tensor, int]:
    """Concatenate rows, aligned at their last column, with `spare` columns after it; also returns the columns used."""
    rows, columns = sum(len(part) for part in parts), max(part.shape[-2] for part in parts)
    room = parts[0].new_empty(rows, parts[0].shape[1], columns + spare, parts[0].shape[-1])
    start = 0
    for part in parts:
        end, pad = start + len(part), columns - part.shape[-2]
        room[start:end, :, :pad] = 0
        room[start:end, :, pad:columns] = part
        start = end
    return room, columns


def _enlarged(used: Tensor, columns: int) -> Tensor:
    """A tensor with `columns` columns, the first of which are those of `used`."""
    rows, heads, before, width = used.shape
    room = used.new_empty(rows, heads, columns, width)
    room[:, :, :before].copy_(used)
    return room
