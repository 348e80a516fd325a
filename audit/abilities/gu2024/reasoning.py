"""Reasoning in the protocol of Gu et al. (2024): GSM8K with the gold rationale in the prompt. Metric: solve rate."""

from collections.abc import Sequence

from audit.abilities import reasoning
from audit.abilities.contract import Answer, Item, Row, Score
from audit.abilities.gu2024 import with_raw_columns
from audit.engine import Decoding


class Reasoning(reasoning.Reasoning):
    """GSM8K with the paper's prompt. The prompt LEAKS the answer; only this protocol does so.

    - After "Let's think step by step." the prompt contains the gold rationale, which nearly always ends in the gold
      number. The score shows whether a model copies the last result of a text, not whether it reasons: the paper's
      LLaMA-1 scores 0.92, and an edit could destroy reasoning without lowering the score.
    - An answer is five tokens and right if it contains the gold as it is spelled: "15" is right for the gold 5, and
      "1450" is wrong for the gold "1,450". This makes golds of one digit, a fifth of the test split, easier.
    """

    protocol = "gu2024"
    decoding: Decoding | None = Decoding(5, stop=())

    def item(self, row: Row, key: str) -> Item:
        item = with_raw_columns(super().item(row, key), row, "question", "answer")
        return Item(item.key, item.ability, item.fields, (_split_answer(item)[1].strip(),), item.cluster)

    def prompt(self, item: Item) -> str:
        return (
            f"Q: {item.fields['question']} A:Let's think step by step. {_split_answer(item)[0]} "
            "Therefore, the answer (arabic numerals) is:"
        )

    def parse(self, text: str) -> Answer:
        answer = text.strip()
        return Answer(text, answer, True) if any(mark.isdecimal() for mark in answer) else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        return Score(float(answer.parseable and item.gold[0] in answer.value))

    def floor(self, items: Sequence[Item]) -> float:
        """The highest score of a constant number; a long number contains many short golds.

        Copying the prompt's last number scores far more, but that is what this protocol measures.
        """
        golds = [item.gold[0] for item in items]
        return max((sum(gold in number for gold in golds) / len(golds) for number in set(golds)), default=0.0)


def _split_answer(item: Item) -> tuple[str, str]:
    """The gold rationale, including the line break after it, and the gold number."""
    rationale, _, number = str(item.fields["answer"]).partition("####")
    return rationale, number
