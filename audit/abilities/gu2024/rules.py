"""How the paper's scripts read rows and answers: columns as they stand, and words wherever they occur."""

from collections.abc import Sequence
from dataclasses import replace

from audit.abilities.contract import Answer, Item, Row


def as_written(item: Item, row: Row, *columns: str) -> Item:
    """The item with these columns as the row has them: blanks at the ends and missing question marks included."""
    return replace(item, fields={**item.fields, **{column: row[column] for column in columns}})


def contained(text: str, words: Sequence[str]) -> Answer:
    """The one of `words` that occurs anywhere in the text, in any case; none or several are unparseable.

    Containment in place of equality: "untrue" says "true". With one token to answer in, this seldom matters.
    """
    found = [word for word in words if word.casefold() in text.casefold()]
    return Answer(text, found[0], True) if len(found) == 1 else Answer(text, None, False)
