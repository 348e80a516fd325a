"""Sentiment in the protocol of Gu et al. (2024): SST-2. Metric: accuracy."""

from audit.abilities import sentiment
from audit.abilities.contract import Answer, Item, Row
from audit.abilities.gu2024 import contained_word, with_raw_columns
from audit.engine import Decoding

_INSTRUCTION = (
    "For each snippet of text,label the sentiment of the text as positive or negative."
    "The answer should be exact 'positive' or 'negative'. text:"
)


class Sentiment(sentiment.Sentiment):
    """SST-2 with the paper's prompt, in which the spaces after "text," and "negative." are missing.

    An answer is one token, so a quotation mark before the word, or a tokenizer that splits the word, makes it wrong:
    the score falls with the format as well as with the judgment.
    """

    protocol = "gu2024"
    decoding: Decoding | None = Decoding(1, stop=())

    def item(self, row: Row, key: str) -> Item:
        return with_raw_columns(super().item(row, key), row, "sentence")

    def prompt(self, item: Item) -> str:
        return f"{_INSTRUCTION} {item.fields['sentence']} answer:"

    def parse(self, text: str) -> Answer:
        return contained_word(text, ("positive", "negative"))
