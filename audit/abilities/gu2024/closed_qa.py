"""Closed-domain question answering as Gu et al. (2024) ask it (BoolQ). Metric: accuracy."""

from audit.abilities import closed_qa
from audit.abilities.contract import Answer, Item, Row
from audit.abilities.gu2024.rules import as_written
from audit.engine import Decoding


class ClosedQA(closed_qa.ClosedQA):
    """BoolQ in the paper's words.

    - One token to answer in, and right only when it is exactly " yes" or " no", in any case: "'yes'" and "Yes," are
      wrong, so format and knowledge fall together.
    - The question stands as the data set has it, without its question mark and with a full stop.

    The blank may be missing: some tokenizers do not give back the one that an answer begins with.
    """

    protocol = "gu2024"
    decoding: Decoding | None = Decoding(1, stop=())

    def item(self, row: Row, key: str) -> Item:
        return as_written(super().item(row, key), row, "passage", "question")

    def prompt(self, item: Item) -> str:
        return (
            "Please answer the given question based on the passage. The answer should be exact 'yes' or 'no'. "
            f"passage: {item.fields['passage']} question: {item.fields['question']}. answer:"
        )

    def parse(self, text: str) -> Answer:
        said = text.lower().removeprefix(" ")
        return Answer(text, said, True) if said in ("yes", "no") else Answer(text, None, False)
