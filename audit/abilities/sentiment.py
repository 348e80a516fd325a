"""Sentiment of a sentence, positive or negative (SST-2). Metric: accuracy."""

from audit.abilities.contract import Ability, Item, Row, Scorer
from audit.abilities.data import columns
from audit.abilities.readings.likelihood import Formulation, label_readings
from audit.abilities.readings.words import TwoLabels
from audit.engine import Decoding


class Sentiment(TwoLabels):
    """SST-2. Label 0 is negative, label 1 is positive."""

    name = "sentiment"
    title = "Sentiment"
    data_name = "sst2"
    metric = "accuracy"
    protocol = "standard"
    reading = "answers"
    labels = ("positive", "negative")
    decoding: Decoding | None = Decoding(8)
    scorer: Scorer | None = None

    def readings(self) -> tuple[Ability, ...]:
        """Written answers, and readings of the two labels behind "Sentiment:"."""
        return label_readings(self, "positive", Formulation(_review, lambda item: ("Positive", "Negative")))

    def item(self, row: Row, key: str) -> Item:
        sentence, label = columns.text(row, "sentence", key), columns.label(row, "label", ("negative", "positive"), key)
        return Item(key, self.name, {"sentence": sentence, "label": label}, (label,), cluster=key)

    def prompt(self, item: Item) -> str:
        return f"{item.fields['sentence']}\nQuestion: Is this sentence positive or negative?\nAnswer:"


def _review(item: Item) -> str:
    """The prompt of readings that score labels: of 16 formulations the steadiest on two small models."""
    return f"Review: {item.fields['sentence']}\nSentiment:"
