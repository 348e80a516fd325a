"""Dialogue: which of four utterances comes next (MuTual)? Metric: R4@1, by rank of log-likelihood."""

from collections.abc import Sequence

from audit.abilities.contract import Answer, Item, Row, Score
from audit.abilities.data import columns
from audit.abilities.readings.words import is_gold, majority
from audit.engine import Decoding
from audit.errors import AuditError

_LETTERS = "ABCD"


class Dialogue:
    """MuTual (Cui et al. 2020): the options are continuations of the article, ranked by summed log-likelihood.

    Items that share an article form a cluster. `audit.abilities.readings.choices.best_choice` turns
    log-likelihoods into the text that `parse` reads: ties go against the model, and a number that is not finite makes
    the answer unparseable.
    """

    name = "dialogue"
    title = "Dialogue"
    data_name = "mutual"
    metric = "R4@1"
    protocol = "standard"
    decoding: Decoding | None = None

    def item(self, row: Row, key: str) -> Item:
        article, options = columns.text(row, "article", key), columns.texts(row, "options", key)
        letter = columns.text(row, "answers", key).upper()
        if letter not in _LETTERS[: len(options)] or len(letter) != 1:
            raise AuditError(f"row {key} has answer {letter!r} for {len(options)} options; use a letter from A")
        fields = {"article": article, "options": list(options), "answers": letter}
        gold = str(_LETTERS.index(letter))
        return Item(key, self.name, fields, (gold,), columns.source_of(article), choices=options)

    def prompt(self, item: Item) -> str:
        return str(item.fields["article"])

    def parse(self, text: str) -> Answer:
        choice = text.strip()
        return Answer(text, choice, True) if choice.isdecimal() else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        return is_gold(item, answer)

    def worked(self, item: Item) -> str:
        """The right utterance itself: the article goes on with it."""
        return item.choices[int(item.gold[0])]

    def floor(self, items: Sequence[Item]) -> float:
        """The better of guessing and of always taking one place (MuTual's dev set has 29.8 % in place D).

        NaN log-likelihoods through an argmax would score the first place's share; that baseline is included here.
        """
        if not items:
            return 0.0
        guessing = sum(1 / len(item.choices) for item in items) / len(items)
        return max(guessing, majority(items))
