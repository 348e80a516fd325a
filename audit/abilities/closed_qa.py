"""Closed-domain question answering: a yes/no question about a passage (BoolQ). Metric: accuracy."""

from audit.abilities.contract import Ability, Item, Row, Scorer
from audit.abilities.data import columns
from audit.abilities.readings.likelihood import Formulation, label_readings
from audit.abilities.readings.words import TwoLabels
from audit.engine import Decoding


class ClosedQA(TwoLabels):
    """BoolQ, with its own column (`answer`, a boolean) or SuperGLUE's (`label`, 0 = no, 1 = yes).

    Items with the same passage form a cluster.
    """

    name = "closed_qa"
    title = "Closed-domain QA"
    data_name = "boolq"
    metric = "accuracy"
    protocol = "standard"
    reading = "answers"
    labels = ("yes", "no")
    decoding: Decoding | None = Decoding(24)
    scorer: Scorer | None = None

    def readings(self) -> tuple[Ability, ...]:
        """Written answers, and readings of "yes" and "no" behind the question."""
        return label_readings(self, "yes", Formulation(self.prompt, lambda item: self.labels))

    def item(self, row: Row, key: str) -> Item:
        passage, question = columns.text(row, "passage", key), columns.question(row, "question", key)
        column = "label" if "label" in row and "answer" not in row else "answer"
        value = row.get(column)
        truth = value if isinstance(value, bool) else columns.label(row, column, ("False", "True"), key) == "True"
        fields = {"passage": passage, "question": question, "answer": truth}
        return Item(key, self.name, fields, ("yes" if truth else "no",), columns.passage_key(passage))

    def prompt(self, item: Item) -> str:
        return f"{item.fields['passage']}\nQuestion: {item.fields['question']}\nAnswer:"
