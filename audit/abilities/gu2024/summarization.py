"""Summarization as Gu et al. (2024) ask it: SAMSum in 25 tokens. Metric: the mean of ROUGE-1, ROUGE-2 and ROUGE-L."""

from audit.abilities import summarization
from audit.abilities.contract import Item, Row
from audit.abilities.gu2024.rules import as_written
from audit.engine import Decoding


class Summarization(summarization.Summarization):
    """SAMSum with "TL;DR:", as `standard` asks it too, but with 25 tokens to answer in and no stop at the line's end.

    What a model writes after its summary (the next dialogue, mostly) is scored with it, and a summary of more than 25
    tokens is cut: both press the number down, for a base model as for an edited one.

    Not repeated: the scripts drop the last 13 letters of every text, to be rid of "<|endoftext|>", which are words of
    the summary where there was none. ROUGE is `rouge-score`'s with stems, as everywhere here; the paper took another
    package, without stems, so the third decimal is not comparable.
    """

    protocol = "gu2024"
    decoding: Decoding | None = Decoding(25, stop=())

    def item(self, row: Row, key: str) -> Item:
        return as_written(super().item(row, key), row, "dialogue")
