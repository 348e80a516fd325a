"""Reasoning: arithmetic word problems of several steps (GSM8K). Metric: the share with the right final number."""

import re
from collections.abc import Sequence
from fractions import Fraction

from audit.abilities.contract import Ability, Answer, Item, Row, Score, Scorer
from audit.abilities.data import columns
from audit.abilities.readings.likelihood import TextLikelihood
from audit.abilities.readings.numbers import final_number, only_number
from audit.abilities.readings.words import majority
from audit.engine import Decoding
from audit.errors import AuditError

_CALCULATOR = re.compile(r"<<[^<>]*>>")  # GSM8K's annotations in a rationale: "48/2 = <<48/2=24>>24"


class Reasoning:
    """GSM8K without the gold rationale in the prompt; the model writes its own steps.

    `final_number` reads the answer: the number after "####" (the data set's convention, Cobbe et al. 2021), else in the
    last \\boxed{}, else the last number. Numbers are compared by value: "1,000", "$1000" and "1000.0" are equal, and so
    are "1/2" and ".5".
    """

    name = "reasoning"
    title = "Reasoning"
    data_name = "gsm8k"
    metric = "solve rate"
    protocol = "standard"
    reading = "answers"
    decoding: Decoding | None = Decoding(256, stop=("\nQuestion:",))
    scorer: Scorer | None = None

    def readings(self) -> tuple[Ability, ...]:
        """Written answers, and the likelihood of the rationale and its number."""
        return self, TextLikelihood(self, lambda item: _CALCULATOR.sub("", self.gold_answer(item)))

    def item(self, row: Row, key: str) -> Item:
        question, answer = columns.text(row, "question", key), columns.text(row, "answer", key)
        gold = only_number(answer.rpartition("####")[2]) if "####" in answer else None
        if gold is None:
            raise AuditError(f"row {key} has {answer[-40:]!r} at the end of column 'answer'; end it in '#### number'")
        return Item(key, self.name, {"question": question, "answer": answer}, (gold,), cluster=key)

    def prompt(self, item: Item) -> str:
        return f"Question: {item.fields['question']}\nAnswer:"

    def parse(self, text: str) -> Answer:
        number = final_number(text)
        return Answer(text, number, number is not None)

    def score(self, item: Item, answer: Answer) -> Score:
        return Score(float(answer.parseable and Fraction(answer.value) == Fraction(item.gold[0])))

    def gold_answer(self, item: Item) -> str:
        """The rationale and the number after "####"."""
        return str(item.fields["answer"])

    def floor(self, items: Sequence[Item]) -> float:
        """The share of the most common gold: the score of a model that always answers this number."""
        return majority(items)
