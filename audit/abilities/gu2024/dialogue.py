"""Dialogue as Gu et al. (2024) ask it: MuTual by letter. Metric: accuracy of the letter, which the paper calls R4@1."""

from collections.abc import Sequence

from audit.abilities import dialogue
from audit.abilities.contract import Answer, Item, Row, Score
from audit.abilities.gu2024.rules import as_written
from audit.abilities.readings.words import majority
from audit.engine import Decoding
from audit.errors import AuditError

_LETTERS = "ABCD"


class Dialogue(dialogue.Dialogue):
    """MuTual as a question with four lettered choices ("Chioces" is the paper's spelling).

    - The letter is written, in one token, in place of the four utterances being ranked. That is another task than
      `standard`'s, and harder for a small model: the paper's GPT-2 XL scores 0.20, where always saying D scores 0.30.
    - Right is a token that contains the gold letter as a capital: " Bob" says B, " ABC" is right for three of four
      golds, and " a" says nothing.
    """

    metric = "accuracy of the letter"
    protocol = "gu2024"
    decoding: Decoding | None = Decoding(1, stop=())

    def item(self, row: Row, key: str) -> Item:
        item = as_written(super().item(row, key), row, "article")
        if len(item.choices) != len(_LETTERS):
            raise AuditError(f"row {key} has {len(item.choices)} options; this protocol asks four")
        return Item(item.key, item.ability, item.fields, (str(item.fields["answers"]),), item.cluster)

    def prompt(self, item: Item) -> str:
        choices = "".join(
            f"({letter}){option}" for letter, option in zip(_LETTERS, item.fields["options"], strict=True)
        )
        return (
            f"Q: {item.fields['article']} Which choice is correct? Answer Chioces: {choices} "
            "A: Among A through D, the answer is"
        )

    def parse(self, text: str) -> Answer:
        letters = "".join(letter for letter in _LETTERS if letter in text)
        return Answer(text, letters, True) if letters else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        return Score(float(answer.parseable and item.gold[0] in answer.value))

    def worked(self, item: Item) -> str:
        return item.gold[0]

    def floor(self, items: Sequence[Item]) -> float:
        """The commonest letter: what always giving it scores."""
        return majority(items)
