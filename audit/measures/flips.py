"""Flips: how each answer changed.

    flips = flips_of(base, edited)   # ("right to wrong", "repeated text")

A lost answer may follow from the edit itself if its item mentions the edit (`audit.measures.mentions`); otherwise it is
a side effect. Flips do not affect the verdict.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RIGHT_TO_WRONG = "right to wrong"
WRONG_TO_RIGHT = "wrong to right"
UNPARSEABLE = "parsed to unparseable"
REPEATED = "repeated text"
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
