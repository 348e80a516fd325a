"""Open-domain question answering without a passage (NQ-open). Metric: exact match with any gold; also token F1."""

from collections.abc import Sequence

from audit.abilities.contract import Ability, Answer, Item, Row, Score, Scorer
from audit.abilities.data import columns
from audit.abilities.readings.likelihood import TextLikelihood
from audit.abilities.readings.words import exact_match, majority, squad_normalized, token_f1
from audit.engine import Decoding


class OpenQA:
    """NQ-open. Decoding stops only at the end of the line: a stop at "." or "," would cut "U.S. Senate"."""

    name = "open_qa"
    title = "Open-domain QA"
    data_name = "nq_open"
    metric = "exact match"
    protocol = "standard"
    reading = "answers"
    decoding: Decoding | None = Decoding(16)
    scorer: Scorer | None = None

    def readings(self) -> tuple[Ability, ...]:
        """Written answers, and the likelihood of the right one."""
        return self, TextLikelihood(self)

    def item(self, row: Row, key: str) -> Item:
        question, golds = columns.question(row, "question", key), columns.texts(row, "answer", key)
        return Item(key, self.name, {"question": question, "answer": list(golds)}, golds, cluster=key)

    def prompt(self, item: Item) -> str:
        return f"Question: {item.fields['question']}\nAnswer:"

    def parse(self, text: str) -> Answer:
        answer = text.strip()
        # "..." and "the" are empty after normalization.
        return Answer(text, answer, True) if squad_normalized(answer) else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        text = answer.value if answer.parseable else ""
        return Score(exact_match(text, item.gold), beside={"f1": token_f1(text, item.gold)})

    def gold_answer(self, item: Item) -> str:
        return item.gold[0]

    def floor(self, items: Sequence[Item]) -> float:
        """The share of the most common gold: the score of a model that always gives this answer."""
        return majority(items)
