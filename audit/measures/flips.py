"""Flips: how each answer changed, and whether its item mentions an edited subject or target.

    mentions = Mentions(requests).in_item(item)   # ("Mara Lind", "Velden"): the item mentions an edit
    flips = flips_of(base, edited)                # ("right to wrong", "repeated text")

A lost answer may follow from the edit itself if its item mentions the edit; otherwise it is a side effect. Flips do not
affect the verdict.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.abilities.contract import Item
from audit.edits.requests import EditRequest
from audit.models.scripts import is_unspaced, words_of

RIGHT_TO_WRONG = "right to wrong"
WRONG_TO_RIGHT = "wrong to right"
UNPARSEABLE = "parsed to unparseable"
REPEATED = "repeated text"
SHORTEST_PHRASE = 3  # letters; a target such as "2" or "no" would match too many items
COPIES = 3  # consecutive copies of a phrase at the end of an answer that make a loop
LONGEST_COPY = 8  # words, or characters in text without spaces
SHORTEST_RUN = 12  # minimum characters of a loop without spaces


@dataclass(frozen=True)
class ScoredAnswer:
    """One model's answer to an item; `text` is "" if a choice was ranked."""

    score: float
    parseable: bool
    text: str


@dataclass(frozen=True)
class FlipCounts:
    """The number of answers that changed in each way; an item may count several times."""

    items: int
    right_to_wrong: int
    wrong_to_right: int
    parsed_to_unparseable: int
    repeated: int


@dataclass(frozen=True)
class FlipReport:
    """The flips of an ability: on items that mention an edited subject or target, and on all others.

    `drop_elsewhere` is the drop over the other items, in score points; None if all items mention an edit.
    """

    mentioning: FlipCounts
    elsewhere: FlipCounts
    drop_elsewhere: float | None


class Mentions:
    """Finds subjects, old targets and new targets of edit requests in text: whole words, ignoring case.

    Phrases below `SHORTEST_PHRASE` are not searched for. An edited prompt is found by the subject that it contains.
    """

    def __init__(self, requests: Iterable[EditRequest]) -> None:
        self._by_first: dict[str, dict[tuple[str, ...], str]] = {}  # first word -> words of a phrase -> phrase
        for request in requests:
            for phrase in (request.subject, request.target_new, request.target_true or ""):
                words = _words(phrase)
                if sum(map(_letters, words)) >= SHORTEST_PHRASE:
                    self._by_first.setdefault(words[0], {}).setdefault(words, phrase)

    def in_text(self, text: str) -> tuple[str, ...]:
        """The phrases in the text, each once, in order of appearance."""
        words = _words(text)
        found: dict[str, None] = {}
        for place, word in enumerate(words):
            for phrase_words, phrase in self._by_first.get(word, {}).items():
                if words[place : place + len(phrase_words)] == phrase_words:
                    found[phrase] = None
        return tuple(found)

    def in_item(self, item: Item) -> tuple[str, ...]:
        """The phrases in an item's fields, choices or gold answers; worked examples do not count."""
        return self.in_text("\n".join([*_texts(item.fields), *item.choices, *item.gold]))


def flips_of(base: ScoredAnswer, edited: Sequence[ScoredAnswer]) -> tuple[str, ...]:
    """The flips of one answer: of score by the mean over the edited models, of text if any of them shows the flip.

    Raises:
        ValueError: there is no edited answer.
    """
    if not edited:
        raise ValueError("there is no edited answer; give that of at least one edited model")
    score = sum(answer.score for answer in edited) / len(edited)
    flips = {
        RIGHT_TO_WRONG: score < base.score,
        WRONG_TO_RIGHT: score > base.score,
        UNPARSEABLE: base.parseable and not all(answer.parseable for answer in edited),
        REPEATED: any(repeats(answer.text) for answer in edited) and not repeats(base.text),
    }
    return tuple(name for name, happened in flips.items() if happened)


def count_flips(flips: Iterable[tuple[str, ...]]) -> FlipCounts:
    """Count the flips in results of `flips_of`."""
    found = list(flips)
    sums = (sum(name in one for one in found) for name in (RIGHT_TO_WRONG, WRONG_TO_RIGHT, UNPARSEABLE, REPEATED))
    return FlipCounts(len(found), *sums)


def repeats(text: str) -> bool:
    """Whether the text ends in a loop: the same few words at least three times in a row, or a run without spaces."""
    words = text.split()
    # The last word or copy may be cut at the maximum length of the answer.
    return _loops(words, 1) or _loops(words[:-1], 1) or _loops(text.strip(), SHORTEST_RUN)


def _loops(units: Sequence[str], least: int) -> bool:
    """Whether the last COPIES · p units, at least `least` of them, repeat with a period p up to LONGEST_COPY."""
    for period in range(1, LONGEST_COPY + 1):
        length = max(COPIES * period, least)
        end = units[-length:]
        if len(end) == length and end[period:] == end[:-period]:
            return True
    return False


def _words(text: str) -> tuple[str, ...]:
    return tuple(words_of(text.casefold()))


def _letters(word: str) -> int:
    """The number of letters; a letter of an unspaced script counts as two."""
    return sum(2 if is_unspaced(mark) else 1 for mark in word)


def _texts(value: Any) -> list[str]:
    """All text in a row's columns; a list of words counts as one text."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, Sequence):
        return [" ".join(text for one in value for text in _texts(one))]
    return []
