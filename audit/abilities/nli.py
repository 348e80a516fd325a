"""Natural language inference: whether one sentence entails another (GLUE RTE). Metric: accuracy."""

from audit.abilities.contract import Ability, Item, Row, Scorer
from audit.abilities.data import columns
from audit.abilities.readings.likelihood import Formulation, LabelPair, label_readings
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

    def readings(self) -> tuple[Ability, ...]:
        """Written answers, and readings of the hypothesis behind the premise."""
        return label_readings(self, "True", Formulation(_premise, _yes_and_no, _further_evidence))

    def item(self, row: Row, key: str) -> Item:
        premise, hypothesis = columns.text(row, "sentence1", key), columns.text(row, "sentence2", key)
        label = columns.label(row, "label", tuple(_SAID), key)
        fields = {"sentence1": premise, "sentence2": hypothesis, "label": label}
        return Item(key, self.name, fields, (_SAID[label],), columns.passage_key(premise))

    def prompt(self, item: Item) -> str:
        return f"{item.fields['sentence1']}\nQuestion: {item.fields['sentence2']} True or False?\nAnswer:"


def _premise(item: Item) -> str:
    """The prompt of readings that score labels, a cloze as in Gao et al. (2021): "premise? Yes, hypothesis"."""
    return f"{item.fields['sentence1']}?"


def _yes_and_no(item: Item) -> tuple[str, str]:
    """The hypothesis after "Yes" and after "No"."""
    return f"Yes, {item.fields['sentence2']}", f"No, {item.fields['sentence2']}"


def _further_evidence(item: Item) -> tuple[LabelPair, ...]:
    """Another cloze, the gain of the hypothesis behind its premise, and the premise behind each label.

    Each is weak on a small model; on two of them their mean with the first cloze is the steadiest of 40 formulations.
    """
    premise, hypothesis = item.fields["sentence1"], item.fields["sentence2"]
    return (
        LabelPair((f"{premise}?", f"In other words, {hypothesis}"), (f"{premise}?", f"On the contrary, {hypothesis}")),
        LabelPair((f"{premise}\n", hypothesis), ("\n", hypothesis), per_token=True),
        LabelPair((f"{hypothesis} True. Evidence:", premise), (f"{hypothesis} False. Evidence:", premise)),
    )
