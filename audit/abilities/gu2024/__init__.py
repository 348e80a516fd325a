"""The eight abilities with the prompts and metrics of Gu et al. (2024, arXiv 2401.04700); `--protocol gu2024`.

Use it only to compare with the numbers of that paper. Prompts, token limits and parsing rules are exactly those of the
paper, including its misspelling; each file describes what they do to the score. Decoding is greedy and zero-shot. Only
the token limit and the end of text stop an answer, unless a file says otherwise.

Accidents of the published scripts are left out: the use of the training split, state that one item leaves for the next,
items that are counted several times, and answers cut by a fixed number of characters. Where the scripts print an
accuracy with and one without unparseable answers, ours is the one over all items.
"""

from collections.abc import Sequence
from dataclasses import replace

from audit.abilities.contract import Answer, Item, Row


def with_raw_columns(item: Item, row: Row, *columns: str) -> Item:
    """The item with these columns exactly as in the row: not stripped, and without added question marks."""
    return replace(item, fields={**item.fields, **{column: row[column] for column in columns}})


def contained_word(text: str, words: Sequence[str]) -> Answer:
    """Parse the one of `words` that occurs anywhere in the text, ignoring case; none or several are unparseable.

    This is containment, not equality: "untrue" contains "true". With an answer of one token it seldom matters.
    """
    found = [word for word in words if word.casefold() in text.casefold()]
    return Answer(text, found[0], True) if len(found) == 1 else Answer(text, None, False)
