"""Sentiment as Gu et al. (2024) ask it (SST-2). Metric: accuracy."""

from audit.abilities import sentiment
from audit.abilities.contract import Answer, Item, Row
from audit.abilities.gu2024.rules import as_written, contained
from audit.engine import Decoding

_ASKED = (
    "For each snippet of text,label the sentiment of the text as positive or negative."
    "The answer should be exact 'positive' or 'negative'. text:"
)


class Sentiment(sentiment.Sentiment):
    """SST-2 in the paper's words; the blanks that its prompt lacks after "text," and "negative." are the paper's.

    One token to answer in, so a quotation mark before the word, or a tokenizer that needs two tokens for it, is wrong:
    the number falls with the format as it does with the judgement.
    """

    protocol = "gu2024"
    decoding: Decoding | None = Decoding(1, stop=())

    def item(self, row: Row, key: str) -> Item:
        return as_written(super().item(row, key), row, "sentence")

    def prompt(self, item: Item) -> str:
        return f"{_ASKED} {item.fields['sentence']} answer:"

    def parse(self, text: str) -> Answer:
        return contained(text, ("positive", "negative"))
