"""A growing cache always holds the same keys and values as the cache of transformers."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from audit.engine.forward import GrowingLayer, filled, growing_cache, keeps_everything, stacked
from audit.models.language_model import LanguageModel

Change = Callable[[DynamicCache], None]
CHANGES: dict[str, Change] = {
    "one column": lambda cache: _add(cache, 1),
    "forty columns": lambda cache: _add(cache, 40),
    "fewer rows": lambda cache: cache.batch_select_indices(torch.tensor([2, 0])),
    "rows twice": lambda cache: cache.batch_repeat_interleave(2),
    "other order": lambda cache: cache.reorder_cache(torch.tensor([1, 0])),
    "without the last": lambda cache: cache.crop(-1),
}


def _add(cache: DynamicCache, columns: int) -> None:
    rows = len(cache.layers[0].keys) if cache.get_seq_length() else 3
    torch.manual_seed(columns + cache.get_seq_length())
    for layer in range(2):
        cache.update(torch.randn(rows, 2, columns, 4), torch.randn(rows, 2, columns, 4), layer)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([*CHANGES]), max_size=8))
def test_any_sequence_of_changes_gives_the_keys_and_values_of_the_plain_cache(changes: list[str]) -> None:
    ours, plain = DynamicCache(), DynamicCache()
    ours.layer_class_to_replicate = GrowingLayer
    for cache in (ours, plain):
        _add(cache, 5)
    for change in changes:
        if change == "fewer rows" and len(plain.layers[0].keys) < 3:
            continue
        for cache in (ours, plain):
            CHANGES[change](cache)
        assert ours.get_seq_length() == plain.get_seq_length()
        for mine, other in zip(ours.layers, plain.layers, strict=True):
            assert torch.equal(mine.keys, other.keys) and torch.equal(mine.values, other.values)


def test_a_step_writes_into_spare_columns_and_copies_nothing(tiny_gpt2: LanguageModel) -> None:
    cache = growing_cache(tiny_gpt2)
    keys = torch.ones(3, 2, 5, 4)
    for _ in range(2):
        cache.update(keys, keys, 0)
    before = cache.layers[0].keys.data_ptr()
    for _ in range(5):
        cache.update(keys[:, :, :1], keys[:, :, :1], 0)
    assert cache.layers[0].keys.data_ptr() == before


def test_stacked_rows_end_in_the_same_column(tiny_gpt2: LanguageModel) -> None:
    caches = [growing_cache(tiny_gpt2) for _ in range(2)]
    for cache, columns in zip(caches, (2, 3), strict=True):
        for layer in range(3):
            cache.update(torch.full((columns, 2, columns, 4), 7.0), torch.full((columns, 2, columns, 4), 8.0), layer)
    keys, values = filled(stacked(caches).layers[2])
    assert keys.shape == values.shape == (5, 2, 3, 4)
    assert keys[:2, :, 0].eq(0).all() and keys[:2, :, 1:].eq(7).all() and values[2:].eq(8).all()


@pytest.mark.parametrize("window", [None, 9])
def test_layers_with_a_window_keep_their_own_class(tiny_llama: LanguageModel, window: int | None) -> None:
    config = tiny_llama.model.config
    before = config.layer_types if hasattr(config, "layer_types") else None
    config.layer_types = ["full_attention", "sliding_attention" if window else "full_attention", "full_attention"]
    config.sliding_window = window
    try:
        cache = growing_cache(tiny_llama)
    finally:
        del config.sliding_window
        if before is None:
            del config.layer_types
        else:
            config.layer_types = before
    assert keeps_everything(cache) == (window is None)
    assert [layer.is_sliding for layer in cache.layers] == [False, window is not None, False]
