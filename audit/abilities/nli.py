"""Natural language inference: whether one sentence entails another (GLUE RTE). Metric: accuracy."""

from audit.abilities.contract import Item, Row, Scorer
from audit.abilities.data import columns
from audit.abilities.readings.words import TwoLabels
from audit.engine import Decoding

_SAID = {"entailment": "True", "not_entailment": "False"}


class NLI(TwoLabels):
    """RTE. Label 0 is entailment, answered with "True" (a widely copied evaluation swaps the two).

    Items with the same `sentence1` form a cluster.
    """

    name = "nli"
    title = "Natural language inference"
    data_name = "rte"
    metric = "accuracy"
    protocol = "standard"
    reading = "answers"
    labels = ("True", "False")
    decoding: Decoding | None = Decoding(24)
    scorer: Scorer | None = None

    def item(self, row: Row, key: str) -> Item:
        premise, hypothesis = columns.text(row, "sentence1", key), columns.text(row, "sentence2", key)
        label = columns.label(row, "label", tuple(_SAID), key)
        fields = {"sentence1": premise, "sentence2": hypothesis, "label": label}
        return Item(key, self.name, fields, (_SAID[label],), columns.passage_key(premise))

    def prompt(self, item: Item) -> str:
        return f"{item.fields['sentence1']}\nQuestion: {item.fields['sentence2']} True or False?\nAnswer:"
