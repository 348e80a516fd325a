"""Attention to columns that were run before, where they lie.

    with constant_prefix(lm, prefix) as cache:  # keys and values of the earlier columns, one pair a layer
        lm.model(input_ids=later, attention_mask=all_columns, past_key_values=cache, use_cache=True)

An ordinary cache copies what it holds beside what is new, in every layer of every pass, and the backward pass fills
gradients for it that nobody reads. Here the earlier columns are constants: scores are computed for the two parts apart
and meet in one softmax (few columns are joined all the same, and handed to SDPA itself). Models that do not take
transformers' SDPA attention get the ordinary cache.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, DynamicCache
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from audit.models.language_model import LanguageModel

Prefix = Sequence[tuple[Tensor, Tensor]]

_NAME = "constant-prefix"
_SMALL = 1 << 16  # entries of a layer's earlier keys that are few enough to be joined
_prefix: ContextVar[Prefix] = ContextVar("_prefix")


@contextmanager
def constant_prefix(lm: LanguageModel, prefix: Prefix) -> Iterator[DynamicCache]:
    """While inside, the model attends to `prefix`, keys and values (rows, key-value heads, columns, width) by layer.

    Layers whose blocks do not run may share a pair: only its length is looked at.
    """
    config: Any = lm.model.config
    before = config._attn_implementation
    if before != "sdpa" or not lm.model._supports_attention_backend:
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(prefix):
            cache.update(keys, values, layer)
        yield cache
        return
    token = _prefix.set(prefix)
    config._attn_implementation = _NAME
    try:
        yield _LengthOnly.of(prefix)
    finally:
        config._attn_implementation = before
        _prefix.reset(token)


class _LengthOnly(DynamicCache):
    """Tells how long the prefix is, for masks and positions, and hands back nothing but what is new."""

    @classmethod
    def of(cls, prefix: Prefix) -> "_LengthOnly":
        cache = cls()
        keys, values = (part[:1, :1, :, :1] for part in prefix[0])  # as long as those of any layer
        for layer in range(len(prefix)):
            DynamicCache.update(cache, keys, values, layer)
        return cache

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        return key_states, value_states


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What SDPA gives for the prefix and the new columns together: (rows, columns, heads, width)."""
    layer: Any = module.layer_idx
    keys, values = _prefix.get()[layer]  # (rows, key-value heads, before, width)
    rows, heads, columns, width = query.shape
    before, sharing = keys.shape[2], heads // key.shape[1]
    if keys.numel() < _SMALL:
        # Little is copied here, and one kernel takes less time than the many below take to start.
        key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        if sharing > 1:
            key, value = key.repeat_interleave(sharing, dim=1), value.repeat_interleave(sharing, dim=1)
        said = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling)
        return said.transpose(1, 2).contiguous(), None
    # Query heads that share a key-value head stand one after another: (rows, key-value heads, group · columns, width)
    grouped = query.reshape(rows, key.shape[1], -1, width) * (width**-0.5 if scaling is None else scaling)
    scores = torch.cat([grouped @ keys.transpose(2, 3), grouped @ key.transpose(2, 3)], dim=-1)
    scores = scores.view(rows, heads, columns, -1) + attention_mask  # (rows, heads, columns, before + columns)
    shares = scores.softmax(-1, dtype=torch.float32).to(query.dtype).view(rows, key.shape[1], -1, scores.shape[-1])
    said = shares[..., :before] @ values + shares[..., before:] @ value
    return said.view(rows, heads, columns, width).transpose(1, 2).contiguous(), None


# The one place where transformers looks for attention by name; the name is used inside `constant_prefix` only.
AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, eager_mask)
