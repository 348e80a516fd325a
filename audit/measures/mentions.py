"""Edited subjects and targets that an item mentions.

Mentions(requests).in_item(item)   # ("Mara Lind", "Velden")
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from audit.abilities.contract import Item
from audit.edits.requests import EditRequest
from audit.models.scripts import is_unspaced, words_of

SHORTEST_PHRASE = 3  # letters; a target such as "2" or "no" would match too many items


class Phrases:
    """Finds phrases in text: whole words, ignoring case. Phrases below `SHORTEST_PHRASE` are not searched for."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._by_first: dict[str, dict[tuple[str, ...], str]] = {}  # first word -> words of a phrase -> phrase
        for phrase in phrases:
            words = phrase_words(phrase)
            if sum(map(_letters, words)) >= SHORTEST_PHRASE:
                self._by_first.setdefault(words[0], {}).setdefault(words, phrase)

    def in_text(self, text: str) -> tuple[str, ...]:
        """The phrases in the text, each once, in order of appearance."""
        words = phrase_words(text)
        found: dict[str, None] = {}
        for place, word in enumerate(words):
            for some_words, phrase in self._by_first.get(word, {}).items():
                if words[place : place + len(some_words)] == some_words:
                    found[phrase] = None
        return tuple(found)


class Mentions(Phrases):
    """Finds subjects, old targets and new targets of edit requests.

    An edited prompt is found by the subject that it contains.
    """

    def __init__(self, requests: Iterable[EditRequest]) -> None:
        super().__init__(phrase for one in requests for phrase in (one.subject, one.target_new, one.target_true or ""))

    def in_item(self, item: Item) -> tuple[str, ...]:
        """The phrases in an item's fields, choices or gold answers; worked examples do not count."""
        return self.in_text("\n".join([item_text(item), *item.choices, *item.gold]))


def item_text(item: Item) -> str:
    """The text of an item's fields: what it asks and what it asks about, without worked examples."""
    return "\n".join(_texts(item.fields))


def phrase_words(text: str) -> tuple[str, ...]:
    """The words of a text, ignoring case, spacing and punctuation."""
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
