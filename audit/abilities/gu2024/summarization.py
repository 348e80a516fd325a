"""Summarization in the protocol of Gu et al. (2024): SAMSum in 25 tokens. Metric: mean of ROUGE-1, -2 and -L."""

from audit.abilities import summarization
from audit.abilities.contract import Item, Row
from audit.abilities.gu2024 import with_raw_columns
from audit.engine import Decoding


class Summarization(summarization.Summarization):
    """SAMSum with "TL;DR:", as in `standard`, but with 25 tokens and no stop at the end of the line.

    Text after the summary (mostly the next dialogue) is scored with it, and a summary of more than 25 tokens is cut.
    Both lower the score of base and edited model alike.

    Not repeated: the scripts drop the last 13 characters of every text to remove "<|endoftext|>", and so cut summaries
    that do not end with it. ROUGE is that of `rouge-score` with stemming; the paper used another package without
    stemming, so the third decimal is not comparable.
    """

    protocol = "gu2024"
    decoding: Decoding | None = Decoding(25, stop=())

    def item(self, row: Row, key: str) -> Item:
        return with_raw_columns(super().item(row, key), row, "dialogue")
