"""Sentiment of a sentence, positive or negative (SST-2). Metric: accuracy."""

from collections.abc import Sequence

from audit.abilities.contract import Answer, Item, Row, Score
from audit.abilities.data import columns
from audit.abilities.readings.words import is_gold, label_in, majority
from audit.engine import Decoding


class Sentiment:
    """SST-2. Label 0 is negative, label 1 is positive."""

    name = "sentiment"
    title = "Sentiment"
    data_name = "sst2"
    metric = "accuracy"
    protocol = "standard"
    decoding: Decoding | None = Decoding(8)

    def item(self, row: Row, key: str) -> Item:
        sentence, label = columns.text(row, "sentence", key), columns.label(row, "label", ("negative", "positive"), key)
        return Item(key, self.name, {"sentence": sentence, "label": label}, (label,), cluster=key)

    def prompt(self, item: Item) -> str:
        return f"{item.fields['sentence']}\nQuestion: Is this sentence positive or negative?\nAnswer:"

    def parse(self, text: str) -> Answer:
        return label_in(text, ("positive", "negative"))

    def score(self, item: Item, answer: Answer) -> Score:
        return is_gold(item, answer)

    def gold_answer(self, item: Item) -> str:
        return item.gold[0]

    def floor(self, items: Sequence[Item]) -> float:
        """The share of the majority class among these items."""
        return majority(items)
