"""A key-value cache with room ahead: a new token's keys and values are written into it, not joined to a copy of it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from audit.models.language_model import LanguageModel


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values, (rows, heads, columns, head_dim), at the beginning of a larger tensor.

    Room is made for half as many columns again, at least `SPARE`, whenever a second call needs it; what a single call
    leaves behind is kept as it is. `keys` and `values` show the columns in use, so cropping costs nothing.
    """

    SPARE = 32

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room: tuple[Tensor, Tensor] | None = None  # of which `keys` and `values` are the first columns

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Add columns; returns all keys and values so far."""
        if self.keys is None or self.values is None:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.keys, self.values, self.is_initialized = key_states, value_states, True
            return self.keys, self.values
        before = self.keys.shape[-2]
        after = before + key_states.shape[-2]
        if self._room is None or after > self._room[0].shape[-2]:
            spare = max(self.SPARE, after // 2)
            self._room = _roomier(self.keys, after + spare), _roomier(self.values, after + spare)
        for room, fresh in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, before:after].copy_(fresh)
        self.keys, self.values = (room[:, :, :after] for room in self._room)
        return self.keys, self.values

    def take(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Hold these rows in place of what it held, aligned at their last columns."""
        (key_room, columns), (value_room, _) = _below(keys, self.SPARE), _below(values, self.SPARE)
        self._room = key_room, value_room
        self.keys, self.values = key_room[:, :, :columns], value_room[:, :, :columns]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order; a row may stand there more than once."""
        if self._room is None:
            super().batch_select_indices(indices)
            return
        columns = self.get_seq_length()
        keys, values = (room.index_select(0, indices.to(room.device)) for room in self._room)
        self._room = keys, values
        self.keys, self.values = keys[:, :, :columns], values[:, :, :columns]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """As `batch_select_indices`."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Let every row stand there `repeats` times."""
        self.batch_select_indices(torch.arange(len(filled(self)[0]), device=self.device).repeat_interleave(repeats))

    def reset(self) -> None:
        """Forget everything."""
        self._room = None
        super().reset()


def keeps_everything(cache: DynamicCache) -> bool:
    """Whether every layer keeps the keys and values of all tokens, so that rows can be put together afterwards."""
    return bool(cache.layers) and all(type(layer) is GrowingLayer for layer in cache.layers)


def filled(layer: object) -> tuple[Tensor, Tensor]:
    """The keys and values of a `GrowingLayer` that has seen tokens, (rows, heads, columns, head_dim) each."""
    assert isinstance(layer, GrowingLayer) and layer.keys is not None and layer.values is not None
    return layer.keys, layer.values


def stacked(caches: Sequence[DynamicCache]) -> DynamicCache:
    """The rows of all caches in the first, aligned at their last columns; every layer must be a `GrowingLayer`.

    What stands before shorter rows is 0, and for the mask to hide.
    """
    first = caches[0]
    for at, layer in enumerate(first.layers):
        assert isinstance(layer, GrowingLayer)
        keys, values = zip(*(filled(cache.layers[at]) for cache in caches), strict=True)
        layer.take(keys, values)
        for cache in caches[1:]:
            cache.layers[at].reset()
    return first


def _below(parts: Sequence[Tensor], spare: int) -> tuple[Tensor, int]:
    """Parts one below the other, aligned at their last column, with `spare` columns after it; and the columns used."""
    rows, columns = sum(len(part) for part in parts), max(part.shape[-2] for part in parts)
    room = parts[0].new_empty(rows, parts[0].shape[1], columns + spare, parts[0].shape[-1])
    start = 0
    for part in parts:
        end, pad = start + len(part), columns - part.shape[-2]
        room[start:end, :, :pad] = 0
        room[start:end, :, pad:columns] = part
        start = end
    return room, columns


def _roomier(filled: Tensor, columns: int) -> Tensor:
    """A tensor of so many columns that begins with those of `filled`."""
    rows, heads, used, width = filled.shape
    room = filled.new_empty(rows, heads, columns, width)
    room[:, :, :used].copy_(filled)
    return room


def growing_cache(lm: LanguageModel) -> DynamicCache:
    """An empty cache for this model; layers that keep a window, or no keys and values, remain what they are."""
    cache = DynamicCache(config=lm.model.config)
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = GrowingLayer
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
