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

from audit.editors.sequences import AlignedRows, EditSequence, align
from audit.editors.taps import run_body, tapped
from audit.models.language_model import LanguageModel

_WORTHWHILE = 0.2  # share of the tokens that must fall away, as two passes cost more than one


@dataclass(frozen=True, eq=False)
class BegunRows:
    """Aligned rows without their beginnings, whose keys and values are in `cache` (None where nothing was split off).

    `rows.ids`, `rows.positions` and `rows.lookup` are of what is left to run; `rows.mask` covers the beginnings, too.
    """

    rows: AlignedRows
    cache: DynamicCache | None

    def run(self, lm: LanguageModel, cache: DynamicCache | None = None) -> None:
        """Run what is left; keys and values go to the beginnings' cache, or to `cache` where there are none."""
        run_body(lm, self.rows.ids, self.rows.mask, self.rows.positions, cache if self.cache is None else self.cache)


def shared_lengths(beginnings: Sequence[tuple[int, ...]]) -> list[int]:
    """How many leading tokens of each row to run once for all rows that share them, so that fewest tokens are run."""
    lengths = [0] * len(beginnings)

    def saved(group: list[int], depth: int) -> int:
        """The most tokens that rows with `depth` tokens in common can save; notes the lengths that do."""
        if len(group) == 1:
            lengths[group[0]] = depth
            return 0
        # Where all go on alike, further is always better; so the recursion is as deep as beginnings part, not as long.
        shortest = min(len(beginnings[index]) for index in group)
        first = beginnings[group[0]]
        while depth < shortest and all(beginnings[index][depth] == first[depth] for index in group):
            depth += 1
        cut = [index for index in group if len(beginnings[index]) == depth]
        longer = [index for index in group if len(beginnings[index]) > depth]
        parts = [list(part) for _, part in groupby(longer, key=lambda index: beginnings[index][depth])]
        deeper = [saved(part, depth + 1) for part in parts]
        # Each row that is cut here saves `depth` tokens, but for the one run that they all share.
        stay = [depth * len(part) > gain for part, gain in zip(parts, deeper, strict=True)]
        best = sum(max(depth * len(part), gain) for part, gain in zip(parts, deeper, strict=True))
        best += depth * len(cut) - depth
        if not cut and sum(deeper) >= best:
            return sum(deeper)
        for index in cut + [index for part, stays in zip(parts, stay, strict=True) if stays for index in part]:
            lengths[index] = depth
        return best

    if beginnings:
        saved(sorted(range(len(beginnings)), key=lambda index: beginnings[index]), 0)
    return lengths


def begin(lm: LanguageModel, sequences: Sequence[EditSequence], stop: str) -> BegunRows:
    """Run the beginnings that `sequences` share, up to module `stop`, and align what is left of each at its lookup."""
    whole = align(sequences, lm.device)
    lengths = shared_lengths([sequence.ids[: sequence.lookup] for sequence in sequences])
    texts = {sequence.ids[:length] for sequence, length in zip(sequences, lengths, strict=True)}
    total = sum(len(sequence.ids) for sequence in sequences)
    saved = sum(lengths) - sum(map(len, texts))
    if saved < _WORTHWHILE * total:
        return BegunRows(whole, None)
    longest = max(lengths)
    rests = [
        EditSequence(sequence.ids[length:], sequence.lookup - length)
        for sequence, length in zip(sequences, lengths, strict=True)
    ]
    rest = align(rests, lm.device)
    # A window counts columns, and the padding between a beginning and the rest would widen the distances.
    if _window(lm) < longest + rest.ids.shape[1]:
        return BegunRows(whole, None)
    place = {text: index for index, text in enumerate(sorted(texts))}
    # A row without a beginning gets keys and values of some token, and its mask hides them.
    once = align([EditSequence(text or (0,), max(0, len(text) - 1)) for text in place], lm.device)
    ran = DynamicCache()
    # A block must have run for its keys and values; what lies inside of its MLP need not.
    with tapped(lm, len(place), outputs=[stop] if stop in lm.anatomy.blocks else [], stop=stop, column=0):
        run_body(lm, once.ids, once.mask, once.positions, ran)
    of_row = torch.tensor(
        [place[sequence.ids[:length]] for sequence, length in zip(sequences, lengths, strict=True)], device=lm.device
    )
    cache = DynamicCache()
    layers: list[Any] = ran.layers
    for index, layer in enumerate(layers):
        rows: Tensor = of_row.to(layer.keys.device)
        cache.update(layer.keys[rows], layer.values[rows], index)
    counted = torch.tensor(lengths, device=lm.device)[:, None]
    aligned = AlignedRows(
        rest.ids,
        torch.cat([once.mask[of_row] * (counted > 0), rest.mask], dim=1),  # (rows, columns of beginnings and rests)
        (rest.positions + counted) * rest.mask,
        rest.lookup,
    )
    return BegunRows(aligned, cache)


def _window(lm: LanguageModel) -> float:
    """How far back the model's most short-sighted layer looks."""
    window = getattr(lm.model.config.get_text_config(), "sliding_window", None)
    return float(window) if window else float("inf")
