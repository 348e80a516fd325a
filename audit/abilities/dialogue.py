"""Dialogue: choose the next of four utterances (MuTual). Metric: R4@1, by log-likelihood."""

from collections.abc import Sequence

from audit.abilities.contract import Ability, Answer, Item, Row, Score, Scorer
from audit.abilities.data import columns
from audit.abilities.readings.likelihood import OptionLikelihood
from audit.abilities.readings.words import is_gold
from audit.engine import Decoding
from audit.errors import AuditError

_LETTERS = "ABCD"


class Dialogue:
    """MuTual (Cui et al. 2020): the options are continuations of the article, ranked by summed log-likelihood.

    Items with the same article form a cluster. `audit.abilities.readings.choices.best_choice` turns the
    log-likelihoods into the text that `parse` reads: ties go against the model, and a value that is not finite makes
    the answer unparseable.
    """

    name = "dialogue"
    title = "Dialogue"
    data_name = "mutual"
    metric = "R4@1"
    protocol = "standard"
    reading = "choices"
    decoding: Decoding | None = None
    scorer: Scorer | None = None

    def readings(self) -> tuple[Ability, ...]:
        """The choice of the likeliest option, and the probability of the right one."""
        return self, OptionLikelihood(self)

    def item(self, row: Row, key: str) -> Item:
        article, options = columns.text(row, "article", key), columns.texts(row, "options", key)
        letter = columns.text(row, "answers", key).upper()
        letters = _LETTERS[: len(options)]
        if letter not in letters or len(letter) != 1:
            raise AuditError(
                f"row {key} has answer {letter!r} for {len(options)} options; use one of {', '.join(letters)}"
            )
        fields = {"article": article, "options": list(options), "answers": letter}
        gold = str(_LETTERS.index(letter))
        return Item(key, self.name, fields, (gold,), columns.passage_key(article), choices=options)

    def prompt(self, item: Item) -> str:
        return str(item.fields["article"])

    def parse(self, text: str) -> Answer:
        choice = text.strip()
        return Answer(text, choice, True) if choice.isdecimal() else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        return is_gold(item, answer)

    def gold_answer(self, item: Item) -> str:
        """The right utterance itself, which continues the article."""
        return item.choices[int(item.gold[0])]

    def floor(self, items: Sequence[Item]) -> float:
        """Chance: the mean of 1 / k over the items, for k options.

        The most frequent letter (D in 29.8 % of MuTual's dev set) is no floor for a ranking: the model scores each
        option as a continuation of the article and sees neither its letter nor its position. A model without the
        ability picks the right option with probability 1 / k, if its ranking is independent of which option is right.
        A broken model scores less, because `best_choice` counts ties and values that are not finite as wrong.
        """
        return sum(1 / len(item.choices) for item in items) / len(items) if items else 0.0
