"""Reading prompts: their keys and values, and what the model would say next."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from audit.engine.batching import padded
from audit.engine.forward import CausalForward
from audit.engine.growing_cache import filled, keeps_everything, stacked

# A processor reads this many tokens at once: the activations of more do not stay in its caches, which costs up to a
# third of its speed. An accelerator reads all that the budget allows.
PORTION = 1024
# A common beginning is read once for all prompts where that saves this many tokens.
WORTH_SHARING = 256


@dataclass(frozen=True, eq=False)
class Beginning:
    """Tokens that prompts begin with, and by layer their keys and values, (1, heads, tokens, head_dim) each."""

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]


@dataclass(frozen=True, eq=False)
class ReadPrompts:
    """Prompts that the model has seen: `mask` (rows, width) for the cache, `logits` (rows, vocabulary) after them."""

    cache: DynamicCache
    mask: Tensor
    logits: Tensor


def common_beginning(rows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens that all rows begin with."""
    if not rows:
        return ()
    first, last = min(rows), max(rows)  # what the extremes share, all that stand between them share
    length = next((i for i, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), None)
    return first[: min(len(first), len(last)) if length is None else length]


def read_beginning(forward: CausalForward, rows: Sequence[tuple[int, ...]]) -> Beginning | None:
    """Read what all rows begin with once, if that saves enough; every row keeps at least one token of its own.

    None too where a layer keeps a window only, as it would have forgotten what shorter rows need, and where another
    forward than the plain one keeps books on the tokens of a cache.
    """
    ids = common_beginning([row[:-1] for row in rows])
    cache = forward.new_cache()
    if len(ids) * (len(rows) - 1) < WORTH_SHARING or not _may_be_split(forward, cache):
        return None
    tokens = torch.tensor([ids], device=forward.device)
    forward(tokens, torch.ones_like(tokens), cache, keep=1)
    return Beginning(ids, tuple(filled(layer) for layer in cache.layers))


def read_prompts(
    forward: CausalForward, rows: Sequence[Sequence[int]], beginning: Beginning | None = None
) -> ReadPrompts:
    """Read rows of token ids, padded on the left; `beginning` is one that all of them have."""
    parts = [_read_portion(forward, portion, beginning) for portion in _portions(forward, rows, beginning)]
    if len(parts) == 1:
        return parts[0]
    width = max(part.mask.shape[1] for part in parts)
    masks = [torch.nn.functional.pad(part.mask, (width - part.mask.shape[1], 0)) for part in parts]
    return ReadPrompts(
        stacked([part.cache for part in parts]),
        torch.cat(masks),  # (rows, width)
        torch.cat([part.logits for part in parts]),  # (rows, vocabulary)
    )


def _may_be_split(forward: CausalForward, cache: DynamicCache) -> bool:
    return type(forward) is CausalForward and keeps_everything(cache)


def _portions(
    forward: CausalForward, rows: Sequence[Sequence[int]], beginning: Beginning | None
) -> list[Sequence[Sequence[int]]]:
    """Rows that are read in one call, in their order."""
    if forward.device.type != "cpu" or not _may_be_split(forward, forward.new_cache()):
        return [rows]
    known = 0 if beginning is None else len(beginning.ids)
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


def _read_portion(forward: CausalForward, rows: Sequence[Sequence[int]], beginning: Beginning | None) -> ReadPrompts:
    """One call of the model.

    After a beginning, every row is read from the same column on: shorter rows take fewer tokens from the beginning, so
    that nothing but the left is ever padded.
    """
    cache = forward.new_cache()
    ids, mask = padded(rows, "left", forward.device)  # (rows, width) twice
    if beginning is not None:
        taken = max(len(row) for row in rows) - max(len(row) - len(beginning.ids) for row in rows)
        # Column c of row i is the token c - (width - length of i); before the row begins, any will do.
        starts = ids.shape[1] - mask.sum(dim=1, keepdim=True)  # (rows, 1)
        places = (torch.arange(taken, device=ids.device) - starts).clamp(min=0)  # (rows, taken)
        for at, (keys, values) in enumerate(beginning.layers):
            there = places.to(keys.device)
            # (heads, rows, taken, head_dim) -> (rows, heads, taken, head_dim)
            cache.update(keys[0][:, there].transpose(0, 1), values[0][:, there].transpose(0, 1), at)
        ids = ids[:, taken:]  # (rows, width - taken)
    logits = forward(ids, mask, cache, keep=1)[:, -1]  # (rows, vocabulary)
    return ReadPrompts(cache, mask, logits)
