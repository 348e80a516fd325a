"""Reasoning: arithmetic word problems of several steps (GSM8K). Metric: the share with the right final number."""

import re
from collections.abc import Sequence
from decimal import Decimal

from audit.abilities.contract import Answer, Item, Row, Score
from audit.abilities.data import columns
from audit.abilities.readings.words import majority
from audit.engine import Decoding
from audit.errors import AuditError

# A digit is required (there is no number in "Thanks..."), and the minus in "10-7" is not a sign.
_NUMBER = r"(?:(?<![\w)])[-\u2212])?\$?\d[\d,]*(?:\.\d+)?"
_MARKED = re.compile(r"####\s*(" + _NUMBER + ")")


class Reasoning:
    """GSM8K without the gold rationale in the prompt; the model writes its own steps.

    The answer is the number after the first "####" (the data set's convention, Cobbe et al. 2021), or the last number
    in the text if there is none. Numbers are compared as decimals: "1,000", "$1000" and "1000.0" are equal.
    """

    name = "reasoning"
    title = "Reasoning"
    data_name = "gsm8k"
    metric = "solve rate"
    protocol = "standard"
    decoding: Decoding | None = Decoding(256, stop=("\nQuestion:",))

    def item(self, row: Row, key: str) -> Item:
        question, answer = columns.text(row, "question", key), columns.text(row, "answer", key)
        marked = _MARKED.search(answer)
        if marked is None:
            raise AuditError(f"row {key} has {answer[-40:]!r} at the end of column 'answer'; end it in '#### number'")
        return Item(key, self.name, {"question": question, "answer": answer}, (_plain(marked.group(1)),), cluster=key)

    def prompt(self, item: Item) -> str:
        return f"Question: {item.fields['question']}\nAnswer:"

    def parse(self, text: str) -> Answer:
        numbers = _MARKED.findall(text)[:1] or re.findall(_NUMBER, text)[-1:]
        return Answer(text, _plain(numbers[0]), True) if numbers else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        return Score(float(answer.parseable and Decimal(answer.value) == Decimal(item.gold[0])))

    def gold_answer(self, item: Item) -> str:
        """The rationale and the number after "####"."""
        return str(item.fields["answer"])

    def floor(self, items: Sequence[Item]) -> float:
        """The share of the most common gold: the score of a model that always answers this number."""
        return majority(items)


def _plain(number: str) -> str:
    return number.replace("\u2212", "-").replace("$", "").replace(",", "")
