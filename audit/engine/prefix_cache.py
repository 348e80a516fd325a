"""Keys and values of columns that need not be computed again: prefixes shared by several rows, and attention to them.

Shared prefixes run once. The rows of a batch of edits begin with the same few prefix contexts, often also with the same
prompt. Tokens attend only to earlier ones, so the states equal those of whole rows:

    rows = split(lm, sequences, stop=path)
    with tapped(lm, len(sequences), inputs=[path], stop=path, column=rows.rest.lookup) as taps:
        rows.run(lm)

Attention to constant columns. An ordinary cache copies the earlier columns next to the new ones in every layer of every
pass, and a backward pass computes gradients for them. Here they are constants:

    with constant_prefix(lm, prefix) as cache:  # keys and values of the earlier columns, one pair per layer
        lm.model(input_ids=later, attention_mask=all_columns, past_key_values=cache, use_cache=True)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, DynamicCache
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from audit.engine.sequences import AlignedRows, EditSequence, align
from audit.engine.taps import run_body, tapped
from audit.models.language_model import LanguageModel

KeysAndValues = Sequence[tuple[Tensor, Tensor]]  # one pair per layer, (rows, key-value heads, columns, width) each

_LEAST_SAVING = 0.2  # share of the tokens that sharing must save, because it costs a second pass
_ATTENTION = "constant-prefix"
_SMALL = 1 << 16  # keys of a layer with fewer entries are concatenated


@dataclass(frozen=True, eq=False)
class SplitRows:
    """Rows without the prefixes that they share.

    Attributes:
        rest: the rows without their prefixes, aligned at the lookup; the mask also covers the columns of the prefixes.
        prefixes: keys and values of the prefixes by layer, (prefixes, key-value heads, columns, width); empty if
            nothing is shared.
        prefix_of_row: the index of each row's prefix, (rows,).
    """

    rest: AlignedRows
    prefixes: KeysAndValues
    prefix_of_row: Tensor

    @property
    def before(self) -> int:
        """Columns before the lookup, including those of the prefixes."""
        return self.rest.mask.shape[1] - self.rest.ids.shape[1] + self.rest.lookup

    def run(self, lm: LanguageModel, keep_from: int | None = None) -> KeysAndValues:
        """Run the rest of the rows, to the end of the model or to the `stop` of the taps.

        Returns the keys and values of the columns before the lookup for layer `keep_from` and those above; [] if None.
        """
        cache = _PrefixedCache(self, keep_from) if self.prefixes or keep_from is not None else None
        run_body(lm, self.rest.ids, self.rest.mask, self.rest.positions, cache)
        return cache.before_lookup if cache is not None else []


class _PrefixedCache(DynamicCache):
    """Puts each row's prefix before its new columns, layer by layer; keeps the columns that `keep_from` selects."""

    def __init__(self, rows: SplitRows, keep_from: int | None) -> None:
        super().__init__()
        self._rows, self._keep_from = rows, keep_from
        self.before_lookup: list[tuple[Tensor, Tensor]] = []
        for layer, (keys, values) in enumerate(rows.prefixes):  # for masks and positions, which use the length only
            super().update(keys[:1, :1, :, :1], values[:1, :1, :, :1], layer)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if self._rows.prefixes:
            keys, values = self._rows.prefixes[layer_idx]
            of_row = self._rows.prefix_of_row.to(keys.device)
            key_states = torch.cat([keys[of_row], key_states], dim=2)  # (rows, key-value heads, columns, width)
            value_states = torch.cat([values[of_row], value_states], dim=2)
        if self._keep_from is not None and layer_idx >= self._keep_from:
            before = self._rows.before
            self.before_lookup.append(
                (key_states[:, :, :before].contiguous(), value_states[:, :, :before].contiguous())
            )
        return key_states, value_states


def unsplit(rows: AlignedRows) -> SplitRows:
    """Rows without shared prefixes."""
    return SplitRows(rows, [], torch.zeros(0, dtype=torch.long))


def split(lm: LanguageModel, sequences: Sequence[EditSequence], stop: str) -> SplitRows:
    """Run the prefixes that `sequences` share, up to module `stop`, and align the rest of each at its lookup.

    Rows stay whole where sharing saves little, or where the model has a sliding window that is too short.
    """
    complete = unsplit(align(sequences, lm.device))
    lengths = shared_lengths([sequence.ids[: sequence.lookup] for sequence in sequences])
    texts = {sequence.ids[:length] for sequence, length in zip(sequences, lengths, strict=True)}
    total = sum(len(sequence.ids) for sequence in sequences)
    saved = sum(lengths) - sum(map(len, texts))
    if saved < _LEAST_SAVING * total:
        return complete
    longest = max(lengths)
    rests = [
        EditSequence(sequence.ids[length:], sequence.lookup - length)
        for sequence, length in zip(sequences, lengths, strict=True)
    ]
    rest = align(rests, lm.device)
    # A sliding window counts columns, and the padding between a prefix and the rest would lengthen the distances.
    if _window(lm) < longest + rest.ids.shape[1]:
        return complete
    place = {text: index for index, text in enumerate(sorted(texts))}
    # A row without a prefix gets the keys and values of an arbitrary token, which its mask hides.
    once = align([EditSequence(text or (0,), max(0, len(text) - 1)) for text in place], lm.device)
    cache = DynamicCache()
    # A block must have finished before its keys and values are there; a module inside its MLP need not.
    with tapped(lm, len(place), outputs=[stop] if stop in lm.anatomy.blocks else [], stop=stop, column=0):
        run_body(lm, once.ids, once.mask, once.positions, cache)
    layers: list[Any] = cache.layers
    prefix_of_row = torch.tensor(
        [place[sequence.ids[:length]] for sequence, length in zip(sequences, lengths, strict=True)], device=lm.device
    )
    counted = torch.tensor(lengths, device=lm.device)[:, None]  # (rows, 1)
    aligned = AlignedRows(
        rest.ids,
        torch.cat([once.mask[prefix_of_row] * (counted > 0), rest.mask], dim=1),  # (rows, columns of prefix and rest)
        (rest.positions + counted) * rest.mask,
        rest.lookup,
    )
    return SplitRows(aligned, [(layer.keys, layer.values) for layer in layers], prefix_of_row)


def shared_lengths(beginnings: Sequence[tuple[int, ...]]) -> list[int]:
    """The length of each row's shared prefix, chosen so that the total number of tokens to run is smallest."""

    def best(group: list[tuple[int, ...]], above: int) -> tuple[int, list[int]]:
        """The most tokens saved, and the lengths, for sorted rows that can share `above` tokens at no further cost."""
        if len(group) == 1:
            return above, [above]
        pairs = zip(group[0], group[-1], strict=False)
        depth = next(
            (at for at, (first, last) in enumerate(pairs) if first != last), min(len(group[0]), len(group[-1]))
        )
        ends = sum(len(row) == depth for row in group)  # these come first
        parts = [list(part) for _, part in groupby(group[ends:], key=lambda row: row[depth])]

        def by_parts(cut: int) -> tuple[int, list[int]]:
            choices = [best(part, cut) for part in parts]
            lengths = [cut] * ends + [length for _, part in choices for length in part]
            return cut * ends + sum(gain for gain, _ in choices), lengths

        # Either all rows share `depth` tokens, which run once, or each part shares its own.
        here, apart = by_parts(depth), by_parts(above)
        return (here[0] - depth, here[1]) if here[0] - depth >= apart[0] else apart

    order = sorted(range(len(beginnings)), key=lambda index: beginnings[index])
    lengths = [0] * len(beginnings)
    if order:
        for index, length in zip(order, best([beginnings[index] for index in order], 0)[1], strict=True):
            lengths[index] = length
    return lengths


def _window(lm: LanguageModel) -> float:
    """The number of columns that the model's sliding window covers; infinite without one."""
    window = getattr(lm.model.config.get_text_config(), "sliding_window", None)
    return float(window) if window else float("inf")


_prefix: ContextVar[KeysAndValues] = ContextVar("_prefix")


@contextmanager
def constant_prefix(lm: LanguageModel, prefix: KeysAndValues) -> Iterator[DynamicCache]:
    """Let the model attend to `prefix`: keys and values (rows, key-value heads, columns, width) by layer.

    Layers whose blocks do not run may share one pair, because only its length is used. Models without transformers'
    SDPA attention get an ordinary cache.
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
    config._attn_implementation = _ATTENTION
    try:
        yield _LengthCache.of(prefix)
    finally:
        config._attn_implementation = before
        _prefix.reset(token)


class _LengthCache(DynamicCache):
    """Has the length of the prefix, for masks and positions, and returns the new keys and values only."""

    @classmethod
    def of(cls, prefix: KeysAndValues) -> "_LengthCache":
        cache = cls()
        keys, values = (part[:1, :1, :, :1] for part in prefix[0])  # all layers have the same length
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
    """SDPA over the prefix and the new columns, with one softmax over both: (rows, columns, heads, width)."""
    layer: Any = module.layer_idx
    keys, values = _prefix.get()[layer]  # (rows, key-value heads, before, width)
    rows, heads, columns, width = query.shape
    before, sharing = keys.shape[2], heads // key.shape[1]
    if keys.numel() < _SMALL:
        # Copying little and calling one kernel is faster than the several kernels below.
        key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        if sharing > 1:
            key, value = key.repeat_interleave(sharing, dim=1), value.repeat_interleave(sharing, dim=1)
        output = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling)
        return output.transpose(1, 2).contiguous(), None
    # Query heads that share a key-value head are grouped: (rows, key-value heads, group · columns, width)
    grouped = query.reshape(rows, key.shape[1], -1, width) * (width**-0.5 if scaling is None else scaling)
    scores = torch.cat([grouped @ keys.transpose(2, 3), grouped @ key.transpose(2, 3)], dim=-1)
    scores = scores.view(rows, heads, columns, -1) + attention_mask  # (rows, heads, columns, before + columns)
    shares = scores.softmax(-1, dtype=torch.float32).to(query.dtype).view(rows, key.shape[1], -1, scores.shape[-1])
    output = (
        shares[..., :before] @ values + shares[..., before:] @ value
    )  # (rows, key-value heads, group · columns, width)
    return output.view(rows, heads, columns, width).transpose(1, 2).contiguous(), None


# transformers looks up attention by name in a global registry. The name is used inside `constant_prefix` only.
AttentionInterface.register(_ATTENTION, _attend)
AttentionMaskInterface.register(_ATTENTION, eager_mask)
