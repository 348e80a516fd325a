"""Named entities in the protocol of Gu et al. (2024): four prompts for a sentence. Metric: recall by type."""

from collections.abc import Sequence
from dataclasses import replace

from audit.abilities import ner
from audit.abilities.contract import Answer, Item, Row, Score
from audit.engine import Decoding
from audit.errors import AuditError

_TYPE_NAMES = {"person": "Person", "location": "Location", "organization": "Organization", "misc": "Miscellaneous"}


class NER(ner.NER):
    """CoNLL-2003 with the paper's prompts: one prompt for each sentence and each of the four types.

    - An entity is found if its surface occurs anywhere in the ten tokens of the answer (case-sensitive). The score is
      the share found of each type, averaged over the four types. The paper calls it entity-level F1, but spurious
      entities cost nothing: a model that copies the start of the sentence finds every entity there, for all types, and
      an edit that makes the model name everything goes unnoticed.
    - A prompt for a type that the sentence does not contain has no effect on the score.

    `counts` are (found, total) for person, location, organization and misc, in that order. The four items of a sentence
    share its cluster, so a limit of n gives 4n prompts and n sentences.

    Not repeated: the scripts join adjacent entities and drop an entity at the end of its sentence. By mistake, and only
    for misc, they count each sentence without an entity as one miss.
    """

    metric = "recall by type"
    protocol = "gu2024"
    decoding: Decoding | None = Decoding(10, stop=("Entity:",))  # the scripts cut the answer here too

    def items(self, row: Row, key: str) -> tuple[Item, ...]:
        """Four items: the sentence with each type."""
        return tuple(self._with_type(kind, self.item(row, key)) for kind in _TYPE_NAMES)

    def prompt(self, item: Item) -> str:
        text = _joined(item.fields["tokens"])
        return f"Please identify {_TYPE_NAMES[_kind(item)]} Entity from the given text. Text: {text} Entity:"

    def parse(self, text: str) -> Answer:
        answer = text.strip()
        return Answer(text, answer, True) if answer else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        asked, total = _kind(item), len(item.gold)
        found = sum(gold in answer.value for gold in item.gold) if answer.parseable else 0
        counts = [number for kind in _TYPE_NAMES for number in ((found, total) if kind == asked else (0, 0))]
        return Score(found / total if total else 1.0, tuple(counts))

    def floor(self, items: Sequence[Item]) -> float:
        """0: a constant answer does not contain the entities of other sentences."""
        return 0.0

    def _with_type(self, kind: str, sentence: Item) -> Item:
        fields = {**sentence.fields, "kind": kind}
        found = ner.entities(sentence.fields["tokens"], sentence.fields["ner_tags"])
        gold = tuple(_joined(surface.split(" ")) for one, surface in found if one == kind)
        return replace(sentence, key=f"{sentence.key}/{kind}", fields=fields, gold=gold)


def _kind(item: Item) -> str:
    """The entity type that an item of `NER.items` asks for. Raises `AuditError` for a whole sentence."""
    if "kind" not in item.fields:
        raise AuditError(
            f"item {item.key} has no entity type; use the four items that items() makes from a row in the protocol "
            "gu2024, and leave worked examples (shots) out"
        )
    return str(item.fields["kind"])


def _joined(tokens: Sequence[str]) -> str:
    """The words as one sentence, as in the scripts: no space before commas and full stops."""
    return "".join(token if token in (",", ".") else f" {token}" for token in tokens).removeprefix(" ")
