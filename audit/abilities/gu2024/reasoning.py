"""Reasoning as Gu et al. (2024) ask it: GSM8K with the gold rationale in the prompt. Metric: solve rate."""

from collections.abc import Sequence

from audit.abilities import reasoning
from audit.abilities.contract import Answer, Item, Row, Score
from audit.abilities.gu2024.rules import as_written
from audit.engine import Decoding


class Reasoning(reasoning.Reasoning):
    """GSM8K in the paper's words. The prompt LEAKS the answer, and only this protocol does that.

    - "Let's think step by step." is followed by the data set's own gold rationale, which nearly always ends in the gold
      number. So the score says whether a model copies the last result of a text, not whether it reasons: the paper's
      LLaMA-1 scores 0.92, and an edit could destroy reasoning without moving that.
    - Five tokens to answer in, and right is what contains the gold as it is spelled: "15" is right where 5 is wanted,
      "1450" is wrong where "1,450" is. One-digit golds, a fifth of the test split, are the easier for it.
    """

    protocol = "gu2024"
    decoding: Decoding | None = Decoding(5, stop=())

    def item(self, row: Row, key: str) -> Item:
        item = as_written(super().item(row, key), row, "question", "answer")
        return Item(item.key, item.ability, item.fields, (_parted(item)[1].strip(),), item.cluster)

    def prompt(self, item: Item) -> str:
        return (
            f"Q: {item.fields['question']} A:Let's think step by step. {_parted(item)[0]} "
            "Therefore, the answer (arabic numerals) is:"
        )

    def parse(self, text: str) -> Answer:
        said = text.strip()
        return Answer(text, said, True) if any(letter.isdecimal() for letter in said) else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        return Score(float(answer.parseable and item.gold[0] in answer.value))

    def floor(self, items: Sequence[Item]) -> float:
        """The best that one number said to everybody scores; a long one contains many short ones.

        Copying the prompt's last number would score far more, but is what this protocol measures.
        """
        golds = [item.gold[0] for item in items]
        return max((sum(gold in said for gold in golds) / len(golds) for said in set(golds)), default=0.0)


def _parted(item: Item) -> tuple[str, str]:
    """The gold rationale, with the end of line that parts it from the number, and the gold number."""
    rationale, _, number = str(item.fields["answer"]).partition("####")
    return rationale, number
