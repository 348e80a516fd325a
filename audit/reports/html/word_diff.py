"""Two texts with the words that differ between them."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from itertools import groupby
from typing import NamedTuple

WORDS = re.compile(r"\w+|\s+|[^\w\s]")


class Span(NamedTuple):
    """A part of a text, and whether the other text lacks it."""

    text: str
    differs: bool


def word_diff(base: str, edited: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """The spans of both texts; joined they are the texts again."""
    before, after = WORDS.findall(base), WORDS.findall(edited)
    found: tuple[list[Span], list[Span]] = ([], [])
    for kind, first, last, start, end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        for spans, words in zip(found, (before[first:last], after[start:end]), strict=True):
            spans.append(Span("".join(words), kind != "equal"))
    return _joined(found[0]), _joined(found[1])


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Neighbors that are alike as one span; a blank between two words that differ belongs to them."""
    found = [span for span in spans if span.text]
    for place, (before, span, after) in enumerate(zip(found, found[1:], found[2:], strict=False), start=1):
        if span.text.isspace() and before.differs and after.differs:
            found[place] = Span(span.text, True)
    groups = groupby(found, key=lambda span: span.differs)
    return tuple(Span("".join(span.text for span in group), differs) for differs, group in groups)
