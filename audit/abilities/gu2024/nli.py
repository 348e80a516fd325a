"""Natural language inference in the protocol of Gu et al. (2024): GLUE RTE. Metric: accuracy."""

from audit.abilities import nli
from audit.abilities.contract import Answer, Item, Row
from audit.abilities.gu2024 import contained_word, with_raw_columns
from audit.engine import Decoding


class NLI(nli.NLI):
    """RTE with the paper's prompt.

    - An answer is one token: a model that begins with other words ("I think ...") is wrong, so an edit that changes
      only the format of answers looks like a loss of inference.
    - The prompt reads oddly: the first sentence "entails the" second, both with their full stops. The paper's base
      models score 0.52 to 0.56, about as much as a constant answer, so a loss cannot be shown (INCONCLUSIVE).

    Not repeated: the scripts use the training split; here it is the split of `--data`.
    """

    protocol = "gu2024"
    decoding: Decoding | None = Decoding(1, stop=())

    def item(self, row: Row, key: str) -> Item:
        return with_raw_columns(super().item(row, key), row, "sentence1", "sentence2")

    def prompt(self, item: Item) -> str:
        return f"{item.fields['sentence1']} entails the {item.fields['sentence2']}. True or False? answer:"

    def parse(self, text: str) -> Answer:
        return contained_word(text, ("True", "False"))
