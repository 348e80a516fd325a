"""Summarization of a chat (SAMSum). Metric: the mean of ROUGE-1, ROUGE-2 and ROUGE-L."""

from collections.abc import Sequence

from audit.abilities.contract import Ability, Answer, Item, Row, Score, Scorer
from audit.abilities.data import columns
from audit.abilities.readings.likelihood import TextLikelihood
from audit.abilities.readings.rouge import KINDS, RougeMean
from audit.engine import Decoding


class Summarization:
    """SAMSum, scored for each item by `audit.abilities.readings.rouge`."""

    name = "summarization"
    title = "Summarization"
    data_name = "samsum"
    metric = "mean of ROUGE-1/2/L"
    protocol = "standard"
    reading = "answers"
    decoding: Decoding | None = Decoding(48)
    scorer: Scorer | None = None
    graded = True

    def __init__(self) -> None:
        self._rouge = RougeMean()

    def readings(self) -> tuple[Ability, ...]:
        """Written answers, and the likelihood of the right one."""
        return self, TextLikelihood(self)

    def item(self, row: Row, key: str) -> Item:
        dialogue = columns.text(row, "dialogue", key).replace("\r\n", "\n")
        summary = columns.text(row, "summary", key)
        return Item(key, self.name, {"dialogue": dialogue, "summary": summary}, (summary,), cluster=key)

    def prompt(self, item: Item) -> str:
        return f"{item.fields['dialogue']}\nTL;DR:"

    def parse(self, text: str) -> Answer:
        summary = text.strip()
        return Answer(text, summary, True) if summary else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        if not answer.parseable:
            return Score(0.0, beside=dict.fromkeys(KINDS, 0.0))
        parts = self._rouge.parts(item.gold[0], str(answer.value))
        return Score(sum(parts.values()) / len(parts), beside=parts)

    def gold_answer(self, item: Item) -> str:
        return item.gold[0]

    def floor(self, items: Sequence[Item]) -> float:
        """The better of two baselines that do not summarize, on these items.

        (a) The gold summary of the next item: the right style without the content, like a majority class. (b) A copy of
        the dialogue's first turn, as from a model that only repeats its prompt. Stronger copies (the three longest
        turns) do part of the task, so they are not a floor.
        """
        if not items:
            return 0.0
        others = [*items[1:], items[0]] if len(items) > 1 else []
        other_summary = [
            self._rouge.mean(item.gold[0], other.gold[0]) for item, other in zip(items, others, strict=False)
        ]
        first_turn = [self._rouge.mean(item.gold[0], str(item.fields["dialogue"]).split("\n")[0]) for item in items]
        return max(sum(other_summary), sum(first_turn)) / len(items)
