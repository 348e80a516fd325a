"""Open-domain QA in the protocol of Gu et al. (2024): NQ with a passage. Metric: gold among the n-grams."""

from collections.abc import Sequence

from audit.abilities import open_qa
from audit.abilities.contract import Answer, Item, Row, Score
from audit.abilities.gu2024 import with_raw_columns
from audit.abilities.readings.words import squad_normalized
from audit.engine import Decoding
from audit.errors import AbilityError

_PASSAGE_COLUMNS = ("document", "passage", "output")


class OpenQA(open_qa.OpenQA):
    """NQ with a retrieved passage in the prompt, so this tests reading; `standard` tests recall.

    - The passage is the row's column `document` or `passage` (or `output`, as in the paper's own file): a text, or a
      list of which the first is used. The hub's nq_open has no passages, so it does not work with this protocol.
    - An answer is 20 tokens and right if any of its n-grams equals a gold after SQuAD's normalization. The paper calls
      it exact match, but it is containment and ignores all text around the gold.
    - The prompt has no "Answer:" and no question mark, so models often continue the question.

    Not repeated: the scripts search for the gold in the prompt too, count an item up to three times, and never reset
    a flag, after which only n-grams that start at the first word are compared.
    """

    metric = "gold among the n-grams"
    protocol = "gu2024"
    decoding: Decoding | None = Decoding(20, stop=())

    def item(self, row: Row, key: str) -> Item:
        item = with_raw_columns(super().item(row, key), row, "question")
        fields = {**item.fields, "document": _passage(row, key)}
        return Item(item.key, item.ability, fields, item.gold, item.cluster)

    def prompt(self, item: Item) -> str:
        return (
            "Refer to the passage below and answer the following question. "
            f"Passage: {item.fields['document']} Question: {item.fields['question']}"
        )

    def score(self, item: Item, answer: Answer) -> Score:
        words = f" {squad_normalized(answer.value)} " if answer.parseable else ""
        golds = [squad_normalized(gold) for gold in item.gold]
        return Score(float(any(gold and f" {gold} " in words for gold in golds)))


def _passage(row: Row, key: str) -> str:
    column = next((column for column in _PASSAGE_COLUMNS if column in row), None)
    if column is None:
        raise AbilityError(
            f"row {key} has no column 'document' or 'passage', which open_qa needs in the protocol gu2024; "
            "add one, or use --protocol standard"
        )
    value = row[column]
    first = value[0] if isinstance(value, Sequence) and not isinstance(value, str) and len(value) else value
    if not isinstance(first, str) or not first.strip():
        raise AbilityError(f"row {key} has {value!r} in column {column!r}; give a passage that is not empty")
    return first
