"""Dialogue in the protocol of Gu et al. (2024): MuTual by letter. Metric: letter accuracy (the paper calls it R4@1)."""

from collections.abc import Sequence

from audit.abilities import dialogue
from audit.abilities.contract import Answer, Item, Row, Score
from audit.abilities.gu2024 import with_raw_columns
from audit.abilities.readings.words import majority
from audit.engine import Decoding
from audit.errors import AuditError

_LETTERS = "ABCD"


class Dialogue(dialogue.Dialogue):
    """MuTual as a prompt with four lettered choices ("Chioces" is the paper's spelling).

    - The model writes the letter in one token; `standard` ranks the four utterances instead. Writing a letter is harder
      for a small model: the paper's GPT-2 XL scores 0.20, and the constant answer D scores 0.30.
    - A token is right if it contains the gold letter as a capital: " Bob" counts as B, " ABC" is right for three of
      four golds, and " a" is unparseable.
    """

    metric = "accuracy of the letter"
    protocol = "gu2024"
    reading = "answers"
    decoding: Decoding | None = Decoding(1, stop=())

    def item(self, row: Row, key: str) -> Item:
        item = with_raw_columns(super().item(row, key), row, "article")
        if len(item.choices) != len(_LETTERS):
            raise AuditError(f"row {key} has {len(item.choices)} options; the protocol gu2024 needs four")
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

    def gold_answer(self, item: Item) -> str:
        return item.gold[0]

    def floor(self, items: Sequence[Item]) -> float:
        """The share of the most common letter: the score of a constant answer."""
        return majority(items)
