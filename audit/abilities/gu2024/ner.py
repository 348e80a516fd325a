"""Named entities as Gu et al. (2024) ask them: four prompts a sentence (CoNLL-2003). Metric: recall by type."""

from collections.abc import Sequence
from dataclasses import replace

from audit.abilities import ner
from audit.abilities.contract import Answer, Item, Row, Score
from audit.engine import Decoding

_ASKED = {"person": "Person", "location": "Location", "organization": "Organization", "misc": "Miscellaneous"}


class NER(ner.NER):
    """CoNLL-2003 in the paper's words: every sentence is asked once for each of the four types.

    - An entity is found when its surface occurs anywhere in ten tokens of answer, upper and lower case as given. The
      score is the share found of each type, and the mean over the four. The paper calls that entity-level F1, but
      nothing spurious costs: a model that copies the start of the sentence finds all that stands there, for all four
      types, and an edit that makes it name everything is never seen.
    - A prompt for a type that the sentence lacks is asked and decides nothing.

    `counts` = (found, there) of person, location, organization and misc, in that order. The four items of a sentence
    share its cluster, so a limit of n asks 4n prompts and judges n sentences.

    Not repeated: the scripts join entities that stand side by side and drop one that ends its sentence; by a slip, and
    for misc only, they count every sentence without an entity as one missed.
    """

    metric = "recall by type"
    protocol = "gu2024"
    decoding: Decoding | None = Decoding(10, stop=("Entity:",))  # what the script cuts at, too

    def several(self, row: Row, key: str) -> tuple[Item, ...]:
        """Four items: the sentence, asked for each type."""
        return tuple(self._asked_for(kind, self.item(row, key)) for kind in _ASKED)

    def prompt(self, item: Item) -> str:
        text = _joined(item.fields["tokens"])
        return f"Please identify {_ASKED[item.fields['kind']]} Entity from the given text. Text: {text} Entity:"

    def parse(self, text: str) -> Answer:
        said = text.strip()
        return Answer(text, said, True) if said else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        there = len(item.gold)
        found = sum(gold in answer.value for gold in item.gold) if answer.parseable else 0
        counts = [number for kind in _ASKED for number in ((found, there) if kind == item.fields["kind"] else (0, 0))]
        return Score(found / there if there else 1.0, tuple(counts))

    def floor(self, items: Sequence[Item]) -> float:
        """0: no constant answer names another sentence's entities; to copy the prompt's words is to name them."""
        return 0.0

    def _asked_for(self, kind: str, sentence: Item) -> Item:
        fields = {**sentence.fields, "kind": kind}
        found = ner.entities(sentence.fields["tokens"], sentence.fields["ner_tags"])
        gold = tuple(_joined(surface.split(" ")) for one, surface in found if one == kind)
        return replace(sentence, key=f"{sentence.key}/{kind}", fields=fields, gold=gold)


def _joined(tokens: Sequence[str]) -> str:
    """The words as the scripts write a sentence: commas and full stops close up to the word before them."""
    return "".join(token if token in (",", ".") else f" {token}" for token in tokens).removeprefix(" ")
