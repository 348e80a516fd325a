"""Natural language inference as Gu et al. (2024) ask it (GLUE RTE). Metric: accuracy."""

from audit.abilities import nli
from audit.abilities.contract import Answer, Item, Row
from audit.abilities.gu2024.rules import as_written, contained
from audit.engine import Decoding


class NLI(nli.NLI):
    """RTE in the paper's words.

    - One token to answer in: a model that begins in any other way ("I think ...") is wrong, so an edit that only
      changes the format of answers looks like lost inference.
    - The first sentence "entails the" second, full stops and all: an odd prompt. The paper's base models score 0.52 to
      0.56 with it, about what one constant answer does, and leave nothing to lose (INCONCLUSIVE).

    Not repeated: the scripts read the training split; here it is the split of `--data`.
    """

    protocol = "gu2024"
    decoding: Decoding | None = Decoding(1, stop=())

    def item(self, row: Row, key: str) -> Item:
        return as_written(super().item(row, key), row, "sentence1", "sentence2")

    def prompt(self, item: Item) -> str:
        return f"{item.fields['sentence1']} entails the {item.fields['sentence2']}. True or False? answer:"

    def parse(self, text: str) -> Answer:
        return contained(text, ("True", "False"))
