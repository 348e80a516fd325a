"""Open-domain question answering as Gu et al. (2024) ask it: NQ beside a passage. Metric: a gold among the n-grams."""

from collections.abc import Sequence

from audit.abilities import open_qa
from audit.abilities.contract import Answer, Item, Row, Score
from audit.abilities.gu2024.rules import as_written
from audit.abilities.readings.words import squad_normalized
from audit.engine import Decoding
from audit.errors import UnaskedError

_PASSAGE_COLUMNS = ("document", "passage", "output")


class OpenQA(open_qa.OpenQA):
    """NQ with a retrieved passage in the prompt: reading, in fact, where `standard` asks from memory.

    - The passage comes from the row's column `document` or `passage` (or `output`, as the paper's own file calls it): a
      text, or a list whose first is taken. The hub's nq_open has none, so this protocol cannot ask it.
    - Right is 20 tokens of which any n-gram equals a gold after SQuAD's normalisation. The paper calls that exact
      match; it is containment, and forgives everything that stands around the gold.
    - There is no "Answer:" and no question mark in the prompt, so models often go on with the question.

    Not repeated: the scripts look for the gold in the prompt too; they count one question up to three times; and a flag
    that is never taken back leaves later questions only the n-grams that begin at the first word.
    """

    metric = "gold among the n-grams"
    protocol = "gu2024"
    decoding: Decoding | None = Decoding(20, stop=())

    def item(self, row: Row, key: str) -> Item:
        item = as_written(super().item(row, key), row, "question")
        fields = {**item.fields, "document": _passage(row, key)}
        return Item(item.key, item.ability, fields, item.gold, item.cluster)

    def prompt(self, item: Item) -> str:
        return (
            "Refer to the passage below and answer the following question. "
            f"Passage: {item.fields['document']} Question: {item.fields['question']}"
        )

    def score(self, item: Item, answer: Answer) -> Score:
        said = f" {squad_normalized(answer.value)} " if answer.parseable else ""
        golds = [squad_normalized(gold) for gold in item.gold]
        return Score(float(any(gold and f" {gold} " in said for gold in golds)))


def _passage(row: Row, key: str) -> str:
    column = next((column for column in _PASSAGE_COLUMNS if column in row), None)
    if column is None:
        raise UnaskedError(
            f"row {key} has no column 'document' or 'passage', and the protocol gu2024 asks open_qa about a passage; "
            "add one, or ask it with --protocol standard"
        )
    value = row[column]
    first = value[0] if isinstance(value, Sequence) and not isinstance(value, str) and len(value) else value
    if not isinstance(first, str) or not first.strip():
        raise UnaskedError(f"row {key} has {value!r} in column {column!r}; give a passage that is not empty")
    return first
