"""Closed-domain question answering in the protocol of Gu et al. (2024): BoolQ. Metric: accuracy."""

from audit.abilities import closed_qa
from audit.abilities.contract import Answer, Item, Row
from audit.abilities.gu2024 import with_raw_columns
from audit.engine import Decoding


class ClosedQA(closed_qa.ClosedQA):
    """BoolQ with the paper's prompt.

    - An answer is one token and right only if it is exactly " yes" or " no", ignoring case. "'yes'" and "Yes," are
      wrong, so the score falls with the format as well as with the knowledge.
    - The question is that of the data set, without a question mark and with a full stop.

    The leading space may be missing, because some tokenizers drop it in decoding.
    """

    protocol = "gu2024"
    decoding: Decoding | None = Decoding(1, stop=())

    def item(self, row: Row, key: str) -> Item:
        return with_raw_columns(super().item(row, key), row, "passage", "question")

    def prompt(self, item: Item) -> str:
        return (
            "Please answer the given question based on the passage. The answer should be exact 'yes' or 'no'. "
            f"passage: {item.fields['passage']} question: {item.fields['question']}. answer:"
        )

    def parse(self, text: str) -> Answer:
        word = text.lower().removeprefix(" ")
        return Answer(text, word, True) if word in ("yes", "no") else Answer(text, None, False)
