"""What answers turned into, item by item, and whether the item mentions what was edited.

    mentions = Mentions(requests).in_item(item)   # ("Mara Lind", "Velden"): about what the edits were to change
    flips = flips_of(base, edited)                # ("right to wrong", "repeated text")

A lost answer about an edited subject may be the intended change, leaking; one about nothing that was edited is a true
side effect. No verdict reads any of this.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.abilities.contract import Item
from audit.edits.requests import EditRequest

RIGHT_TO_WRONG = "right to wrong"
WRONG_TO_RIGHT = "wrong to right"
UNPARSEABLE = "parsed to unparseable"
REPEATED = "repeated text"
SHORTEST_PHRASE = 3  # letters: a target such as "2" or "no" would mark every item
COPIES = 3  # of a phrase in a row, at the end of an answer, make it a loop
LONGEST_COPY = 8  # words, or characters where there are no blanks
SHORTEST_RUN = 12  # characters that a loop without blanks has at least


@dataclass(frozen=True)
class Said:
    """One model's answer to an item; `text` is "" where a choice was ranked."""

    score: float
    parseable: bool
    text: str


@dataclass(frozen=True)
class FlipCounts:
    """How the answers to so many items changed; one item may count under several words."""

    items: int
    right_to_wrong: int
    wrong_to_right: int
    parsed_to_unparseable: int
    repeated: int


@dataclass(frozen=True)
class FlipReport:
    """The flips of an ability: on items that mention an edited subject or target, and on all others.

    `drop_elsewhere` is the drop over the other items alone, in score points; None where all items mention an edit.
    """

    mentioning: FlipCounts
    elsewhere: FlipCounts
    drop_elsewhere: float | None


class Mentions:
    """Finds the subjects and the targets, old and new, of edit requests: whole words, in upper or lower case alike.

    A question that is an edited prompt holds its subject, so it is found as well.
    """

    def __init__(self, requests: Iterable[EditRequest]) -> None:
        self._by_first: dict[str, dict[tuple[str, ...], str]] = {}  # first word -> words of a phrase -> the phrase
        for request in requests:
            for phrase in (request.subject, request.target_new, request.target_true or ""):
                words = _words(phrase)
                if sum(map(len, words)) >= SHORTEST_PHRASE:
                    self._by_first.setdefault(words[0], {}).setdefault(words, phrase)

    def in_text(self, text: str) -> tuple[str, ...]:
        """The phrases that the text mentions, each once, in the order in which it does."""
        words = _words(text)
        found: dict[str, None] = {}
        for place, word in enumerate(words):
            for phrase_words, phrase in self._by_first.get(word, {}).items():
                if words[place : place + len(phrase_words)] == phrase_words:
                    found[phrase] = None
        return tuple(found)

    def in_item(self, item: Item) -> tuple[str, ...]:
        """The phrases in what the item asks, offers or wants; worked examples before the question do not count."""
        return self.in_text("\n".join([*_texts(item.fields), *item.choices, *item.gold]))


def flips_of(base: Said, edited: Sequence[Said]) -> tuple[str, ...]:
    """What became of one answer; of several edited models, by their mean score, or as soon as one does it."""
    score = sum(said.score for said in edited) / len(edited)
    flips = {
        RIGHT_TO_WRONG: score < base.score,
        WRONG_TO_RIGHT: score > base.score,
        UNPARSEABLE: base.parseable and not all(said.parseable for said in edited),
        REPEATED: any(repeats(said.text) for said in edited) and not repeats(base.text),
    }
    return tuple(name for name, happened in flips.items() if happened)


def count_flips(flips: Iterable[tuple[str, ...]]) -> FlipCounts:
    """Sum what `flips_of` found on each of some items."""
    found = list(flips)
    sums = (sum(name in one for one in found) for name in (RIGHT_TO_WRONG, WRONG_TO_RIGHT, UNPARSEABLE, REPEATED))
    return FlipCounts(len(found), *sums)


def repeats(text: str) -> bool:
    """Whether the text ends in a loop: the same few words three times in a row or more, or a run without blanks."""
    words = text.split()
    # The last word, or the last copy, may have been cut where the answer reached its limit.
    return _loops(words, 1) or _loops(words[:-1], 1) or _loops(text.strip(), SHORTEST_RUN)


def _loops(units: Sequence[str], least: int) -> bool:
    """Whether the last COPIES * p units, and at least `least` of them, repeat every p, for a small p."""
    for period in range(1, LONGEST_COPY + 1):
        length = max(COPIES * period, least)
        end = units[-length:]
        if len(end) == length and end[period:] == end[:-period]:
            return True
    return False


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.casefold()))


def _texts(value: Any) -> list[str]:
    """All text in a row's columns; a list of words is one text."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, Sequence):
        return [" ".join(text for one in value for text in _texts(one))]
    return []
