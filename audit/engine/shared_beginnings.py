"""Beginnings that many rows share, run once:

    begun = begin(lm, sequences, stop=path)
    with tapped(lm, len(sequences), inputs=[path], stop=path, column=begun.rows.lookup) as taps:
        begun.run(lm)

All requests of a batch are asked after the same few prefix contexts, often with the same prompt, so most of what comes
before a subject is the same text again and again. Its keys and values are computed once a text and handed to every row
that goes on from there. As tokens only look back, the states are those of whole rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from audit.engine.sequences import AlignedRows, EditSequence, align
from audit.engine.taps import run_body, tapped
from audit.models.language_model import LanguageModel

KeysAndValues = list[tuple[Tensor, Tensor]]  # one pair a layer

_WORTHWHILE = 0.2  # share of the tokens that must fall away, as two passes cost more than one


@dataclass(frozen=True, eq=False)
class BegunRows:
    """Aligned rows without their beginnings, whose keys and values are in `texts`, (texts, key-value heads, columns,
    width) by layer; `of_row` (rows,) says which text is whose. `texts` is empty where nothing was split off.

    `rows.ids`, `rows.positions` and `rows.lookup` are of what is left to run; `rows.mask` covers the beginnings, too.
    """

    rows: AlignedRows
    texts: KeysAndValues
    of_row: Tensor

    @property
    def before(self) -> int:
        """Columns before the lookup, those of the beginnings included."""
        return self.rows.mask.shape[1] - self.rows.ids.shape[1] + self.rows.lookup

    def run(self, lm: LanguageModel, keep_from: int | None = None) -> KeysAndValues:
        """Run what is left, as far as a tap lets it.

        With `keep_from` hand back keys and values of the columns before the lookup, of the layers from that one on.
        """
        cache = _Joining(self, keep_from) if self.texts or keep_from is not None else None
        run_body(lm, self.rows.ids, self.rows.mask, self.rows.positions, cache)
        return cache.kept if cache is not None else []


class _Joining(DynamicCache):
    """Joins each row's beginning to what is new, one layer at a time, and keeps no more than was asked for."""

    def __init__(self, begun: BegunRows, keep_from: int | None) -> None:
        super().__init__()
        self._begun, self._keep_from = begun, keep_from
        self.kept: KeysAndValues = []
        for layer, (keys, values) in enumerate(begun.texts):  # for masks and positions, which look at lengths only
            super().update(keys[:1, :1, :, :1], values[:1, :1, :, :1], layer)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if self._begun.texts:
            keys, values = self._begun.texts[layer_idx]
            of_row = self._begun.of_row.to(keys.device)
            key_states = torch.cat([keys[of_row], key_states], dim=2)
            value_states = torch.cat([values[of_row], value_states], dim=2)
        if self._keep_from is not None and layer_idx >= self._keep_from:
            before = self._begun.before
            self.kept.append((key_states[:, :, :before].contiguous(), value_states[:, :, :before].contiguous()))
        return key_states, value_states


def not_begun(rows: AlignedRows) -> BegunRows:
    """Rows that are run whole."""
    return BegunRows(rows, [], torch.zeros(0, dtype=torch.long))


def shared_lengths(beginnings: Sequence[tuple[int, ...]]) -> list[int]:
    """How many leading tokens of each row to run once for all rows that share them, so that fewest tokens are run."""

    def best(group: list[tuple[int, ...]], above: int) -> tuple[int, list[int]]:
        """Tokens saved, at most, and the lengths that do, for sorted rows that can share `above` tokens at no cost."""
        if len(group) == 1:
            return above, [above]
        pairs = zip(group[0], group[-1], strict=False)
        depth = next(
            (at for at, (first, last) in enumerate(pairs) if first != last), min(len(group[0]), len(group[-1]))
        )
        ends = sum(len(row) == depth for row in group)  # these come first
        parts = [list(part) for _, part in groupby(group[ends:], key=lambda row: row[depth])]

        def parted(cut: int) -> tuple[int, list[int]]:
            found = [best(part, cut) for part in parts]
            lengths = [cut] * ends + [length for _, part in found for length in part]
            return cut * ends + sum(gain for gain, _ in found), lengths

        # Either all of them share `depth` tokens, which must be run once, or each part sees to itself.
        here, apart = parted(depth), parted(above)
        return (here[0] - depth, here[1]) if here[0] - depth >= apart[0] else apart

    order = sorted(range(len(beginnings)), key=lambda index: beginnings[index])
    lengths = [0] * len(beginnings)
    if order:
        for index, length in zip(order, best([beginnings[index] for index in order], 0)[1], strict=True):
            lengths[index] = length
    return lengths


def begin(lm: LanguageModel, sequences: Sequence[EditSequence], stop: str) -> BegunRows:
    """Run the beginnings that `sequences` share, up to module `stop`, and align what is left of each at its lookup."""
    whole = not_begun(align(sequences, lm.device))
    lengths = shared_lengths([sequence.ids[: sequence.lookup] for sequence in sequences])
    texts = {sequence.ids[:length] for sequence, length in zip(sequences, lengths, strict=True)}
    total = sum(len(sequence.ids) for sequence in sequences)
    saved = sum(lengths) - sum(map(len, texts))
    if saved < _WORTHWHILE * total:
        return whole
    longest = max(lengths)
    rests = [
        EditSequence(sequence.ids[length:], sequence.lookup - length)
        for sequence, length in zip(sequences, lengths, strict=True)
    ]
    rest = align(rests, lm.device)
    # A window counts columns, and the padding between a beginning and the rest would widen the distances.
    if _window(lm) < longest + rest.ids.shape[1]:
        return whole
    place = {text: index for index, text in enumerate(sorted(texts))}
    # A row without a beginning gets keys and values of some token, and its mask hides them.
    once = align([EditSequence(text or (0,), max(0, len(text) - 1)) for text in place], lm.device)
    ran = DynamicCache()
    # A block must have run for its keys and values; what lies inside of its MLP need not.
    with tapped(lm, len(place), outputs=[stop] if stop in lm.anatomy.blocks else [], stop=stop, column=0):
        run_body(lm, once.ids, once.mask, once.positions, ran)
    layers: list[Any] = ran.layers
    of_row = torch.tensor(
        [place[sequence.ids[:length]] for sequence, length in zip(sequences, lengths, strict=True)], device=lm.device
    )
    counted = torch.tensor(lengths, device=lm.device)[:, None]
    aligned = AlignedRows(
        rest.ids,
        torch.cat([once.mask[of_row] * (counted > 0), rest.mask], dim=1),  # (rows, columns of beginnings and rests)
        (rest.positions + counted) * rest.mask,
        rest.lookup,
    )
    return BegunRows(aligned, [(layer.keys, layer.values) for layer in layers], of_row)


def _window(lm: LanguageModel) -> float:
    """How far back the model's most short-sighted layer looks."""
    window = getattr(lm.model.config.get_text_config(), "sliding_window", None)
    return float(window) if window else float("inf")
