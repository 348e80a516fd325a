"""Sentiment of a sentence, positive or negative (SST-2). Metric: accuracy."""

from audit.abilities.contract import Item, Row
from audit.abilities.data import columns
from audit.abilities.readings.words import TwoLabels
from audit.engine import Decoding


class Sentiment(TwoLabels):
    """SST-2. Label 0 is negative, label 1 is positive."""

    name = "sentiment"
    title = "Sentiment"
    data_name = "sst2"
    metric = "accuracy"
    protocol = "standard"
    labels = ("positive", "negative")
    decoding: Decoding | None = Decoding(8)

    def item(self, row: Row, key: str) -> Item:
        sentence, label = columns.text(row, "sentence", key), columns.label(row, "label", ("negative", "positive"), key)
        return Item(key, self.name, {"sentence": sentence, "label": label}, (label,), cluster=key)

    def prompt(self, item: Item) -> str:
        return f"{item.fields['sentence']}\nQuestion: Is this sentence positive or negative?\nAnswer:"
