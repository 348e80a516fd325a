"""Prefill: the keys and values of prompts, and the logits of the next token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from audit.engine.batching import padded
from audit.engine.forward import CausalForward, filled, keeps_everything, stacked

# Tokens in one call on a CPU. The activations of more tokens exceed its caches, which costs up to a third of the speed.
# An accelerator takes the whole batch in one call.
PORTION = 1024
# Tokens that a shared prefix must save to be computed in a call of its own.
WORTH_SHARING = 256


@dataclass(frozen=True, eq=False)
class Prefix:
    """Tokens that all prompts begin with, and their keys and values by layer, (1, heads, tokens, head_dim) each."""

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]

    def cache(self, forward: CausalForward, rows: int) -> DynamicCache:
        """A cache that holds this prefix in every one of `rows` rows."""
        cache = forward.new_cache()
        for at, pair in enumerate(self.layers):
            # (1, heads, tokens, head_dim) -> (rows, heads, tokens, head_dim); views, which the next tokens copy
            keys, values = (tensor.expand(rows, -1, -1, -1) for tensor in pair)
            cache.update(keys, values, at)
        return cache


@dataclass(frozen=True, eq=False)
class Prefill:
    """Prompts in the cache: `mask` (rows, width) covers it, `logits` (rows, vocabulary) predict the next token."""

    cache: DynamicCache
    mask: Tensor
    logits: Tensor


def common_prefix(rows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens that all rows begin with."""
    if not rows:
        return ()
    first, last = min(rows), max(rows)  # every row between them in this order shares their common prefix
    length = next((i for i, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), None)
    return first[: min(len(first), len(last)) if length is None else length]


def compute_prefix(forward: CausalForward, rows: Sequence[tuple[int, ...]]) -> Prefix | None:
    """Compute the prefix that all rows share, if that saves enough; every row keeps at least one token of its own.

    Returns None otherwise, and also where a layer keeps only a window (it would have dropped what shorter rows need)
    or where `forward` is a subclass that tracks the tokens of its cache.
    """
    ids = common_prefix([row[:-1] for row in rows])
    cache = forward.new_cache()
    if len(ids) * (len(rows) - 1) < WORTH_SHARING or not _may_be_split(forward, cache):
        return None
    tokens = torch.tensor([ids], device=forward.device)
    forward(tokens, torch.ones_like(tokens), cache, keep=1)
    return Prefix(ids, tuple(filled(layer) for layer in cache.layers))


def prefill(forward: CausalForward, rows: Sequence[Sequence[int]], prefix: Prefix | None = None) -> Prefill:
    """Compute rows of token ids, padded on the left; `prefix` is a prefix that all of them share."""
    parts = [_prefill_portion(forward, portion, prefix) for portion in _portions(forward, rows, prefix)]
    if len(parts) == 1:
        return parts[0]
    width = max(part.mask.shape[1] for part in parts)
    masks = [torch.nn.functional.pad(part.mask, (width - part.mask.shape[1], 0)) for part in parts]
    return Prefill(
        stacked([part.cache for part in parts]),
        torch.cat(masks),  # (rows, width)
        torch.cat([part.logits for part in parts]),  # (rows, vocabulary)
    )


def _may_be_split(forward: CausalForward, cache: DynamicCache) -> bool:
    return type(forward) is CausalForward and keeps_everything(cache)


def _portions(
    forward: CausalForward, rows: Sequence[Sequence[int]], prefix: Prefix | None
) -> list[Sequence[Sequence[int]]]:
    """The rows of each call, in their order."""
    if forward.device.type != "cpu" or not _may_be_split(forward, forward.new_cache()):
        return [rows]
    known = 0 if prefix is None else len(prefix.ids)
    portions: list[list[Sequence[int]]] = []
    width = 0
    for row in rows:
        width = max(width, len(row) - known)
        if portions and (len(portions[-1]) + 1) * width <= PORTION:
            portions[-1].append(row)
        else:
            portions.append([row])
            width = len(row) - known
    return list(portions)


def _prefill_portion(forward: CausalForward, rows: Sequence[Sequence[int]], prefix: Prefix | None) -> Prefill:
    """Compute rows in one call of the model.

    All rows continue from the same column: shorter rows take fewer tokens from `prefix`, so that there is padding
    on the left only.
    """
    cache = forward.new_cache()
    ids, mask = padded(rows, "left", forward.device)  # (rows, width) twice
    if prefix is not None:
        taken = max(len(row) for row in rows) - max(len(row) - len(prefix.ids) for row in rows)
        # Column c of row i is token c - (width - length of i). The columns before it are masked, so any token will do.
        starts = ids.shape[1] - mask.sum(dim=1, keepdim=True)  # (rows, 1)
        places = (torch.arange(taken, device=ids.device) - starts).clamp(min=0)  # (rows, taken)
        for at, (keys, values) in enumerate(prefix.layers):
            there = places.to(keys.device)
            # (heads, rows, taken, head_dim) -> (rows, heads, taken, head_dim)
            cache.update(keys[0][:, there].transpose(0, 1), values[0][:, there].transpose(0, 1), at)
        ids = ids[:, taken:]  # (rows, width - taken)
    logits = forward(ids, mask, cache, keep=1)[:, -1]  # (rows, vocabulary)
    return Prefill(cache, mask, logits)
