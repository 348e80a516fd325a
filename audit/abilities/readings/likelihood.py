"""Reading by likelihood: how well the model expects the right answer. Nothing is written; one pass an item.

    TextLikelihood     a written answer: the mean over its tokens of the log-probability, bounded so that no token rules
    OptionLikelihood   an option among k: its probability, p = exp(l_i) / sum_j exp(l_j)
    LabelLikelihood    two labels: the log-odds of the first, for the area under the ROC curve (AUC)

Accuracy hides what these show (Schaeffer et al. 2023; Dutta et al. 2024): a model that writes no right answer can
still expect the right one better than chance, and lose that. The floor of a written answer is measured: the same answer
behind another item's prompt. So only what the model takes from the prompt counts, not that answers are fluent text.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audit.abilities.contract import Ability, Answer, Item, Score, ScoredText
from audit.abilities.readings.choices import best_choice
from audit.abilities.wrapper import AbilityWrapper

LEAST = 1e-4  # a token's probability below this counts as this; the score of such a token is 0
NATS = "nats per token"


def expectation(scored: ScoredText) -> float:
    """The mean over the tokens of 1 + max(log p, log LEAST) / |log LEAST|, in [0, 1]; 0 where a value is NaN."""
    if not scored.log_probabilities or not all(one <= 1e-6 for one in scored.log_probabilities):  # NaN, too
        return 0.0
    width = -math.log(LEAST)
    return math.fsum(1 + max(min(one, 0.0), -width) / width for one in scored.log_probabilities) / len(scored.tokens)


class TextLikelihood(AbilityWrapper):
    """An ability with written answers, read by the likelihood of the right answer.

    `right_answer` gives the text that is scored, by default the ability's gold answer as in worked examples.
    """

    def __init__(self, ability: Ability, right_answer: Callable[[Item], str] | None = None) -> None:
        super().__init__(ability)
        self.reading, self.metric, self.decoding = "likelihood", "likelihood of the right answer", None
        self.scorer = TextScorer(right_answer or ability.gold_answer)

    def floor(self, items: Sequence[Item]) -> float:
        """0; the measured floor of each item replaces it."""
        return 0.0


@dataclass(frozen=True)
class TextScorer:
    """Scores the right answer behind the prompt."""

    right_answer: Callable[[Item], str]
    measured_floor: bool = True

    def continuations(self, item: Item, prompt: str) -> tuple[tuple[str, str], ...]:
        return ((prompt, self.right_answer(item)),)

    def read(self, item: Item, scored: Sequence[ScoredText]) -> tuple[Answer, Score]:
        """The mean log-probability per token as the answer's value; the text shows the least expected token."""
        (one,) = scored
        value, nats = expectation(one), one.total / max(1, len(one.tokens))
        if not math.isfinite(nats):
            return Answer("", None, False), Score(0.0, beside={NATS: math.log(LEAST)})
        least = min(range(len(one.tokens)), key=lambda k: one.log_probabilities[k])
        text = (
            f"{nats:.2f} nats per token; least expected {one.tokens[least].strip()!r} "
            f"(p = {math.exp(one.log_probabilities[least]):.2g})"
        )
        return Answer(text, round(nats, 6), True), Score(value, beside={NATS: nats})


class OptionLikelihood(AbilityWrapper):
    """An ability with options, read by the probability of the right one among them; the floor is 1 / k."""

    def __init__(self, ability: Ability) -> None:
        super().__init__(ability)
        self.reading, self.metric, self.scorer = "likelihood", "probability of the right option", OptionScorer()


@dataclass(frozen=True)
class OptionScorer:
    """Scores every option of the item behind its prompt."""

    measured_floor: bool = False

    def continuations(self, item: Item, prompt: str) -> tuple[tuple[str, str], ...]:
        return tuple((prompt, choice) for choice in item.choices)

    def read(self, item: Item, scored: Sequence[ScoredText]) -> tuple[Answer, Score]:
        """The best option as the answer, and the probability of the right one as the score; NaN counts as 0."""
        totals = [one.total for one in scored]
        choice, floor = best_choice(item, totals), 1 / len(item.choices)
        right = float(choice in item.gold and choice != "")
        if not choice:
            return Answer("", None, False), Score(0.0, floor=floor, beside={"accuracy by choices": 0.0})
        shares = [math.exp(total - max(totals)) for total in totals]
        probability = sum(shares[int(gold)] for gold in item.gold) / sum(shares)
        return Answer(choice, choice, True), Score(probability, floor=floor, beside={"accuracy by choices": right})


@dataclass(frozen=True)
class LabelPair:
    """A (prompt, continuation) pair that speaks for the first label, and one that speaks for the second.

    The evidence for the first label is the difference of their log-likelihoods, in nats; `per_token` for pairs whose
    difference grows with the length of the continuation.
    """

    first: tuple[str, str]
    second: tuple[str, str]
    per_token: bool = False


def _no_more(item: Item) -> tuple[LabelPair, ...]:
    return ()


@dataclass(frozen=True)
class Formulation:
    """How an item with two labels is put to a model that scores continuations.

    `prompt` is the item's prompt, and `texts` are what follows it for the first and for the second label: a word, or a
    word and more of the item. With examples or a chat template, the item's prompt is at the end of a longer one. `more`
    are further pairs, always asked plainly; the log-odds are the mean over all pairs.
    """

    prompt: Callable[[Item], str]
    texts: Callable[[Item], tuple[str, str]]
    more: Callable[[Item], tuple[LabelPair, ...]] = _no_more

    def pairs(self, item: Item, prompt: str) -> tuple[LabelPair, ...]:
        """All pairs of an item; `prompt` is the item's, with examples and chat template."""
        first, second = self.texts(item)
        return LabelPair((prompt, first), (prompt, second)), *self.more(item)


class LabelReading(AbilityWrapper):
    """An ability with two labels, read from the log-odds of the first, which is `first` in the items' golds."""

    def __init__(self, ability: Ability, first: str, formulation: Formulation) -> None:
        super().__init__(ability)
        self.decoding = None
        self.first, self.formulation = first, formulation

    def prompt(self, item: Item) -> str:
        return self.formulation.prompt(item)

    def gold_answer(self, item: Item) -> str:
        """What follows the prompt for the right label."""
        return self.formulation.texts(item)[0 if item.gold[0] == self.first else 1]


class LabelLikelihood(LabelReading):
    """Two labels, read by the AUC of the log-odds: free of the model's preference for a label; the floor is 0.5."""

    def __init__(self, ability: Ability, first: str, formulation: Formulation) -> None:
        super().__init__(ability, first, formulation)
        self.reading, self.metric = "likelihood", "AUC of the log-odds"
        self.scorer = LabelScorer(first, formulation, "odds")

    def floor(self, items: Sequence[Item]) -> float:
        """0.5, the AUC of a model that ranks the items at random."""
        return 0.5


class LabelChoices(LabelReading):
    """Two labels, of which the likelier is the answer. Metric: accuracy; the floor is the majority class."""

    def __init__(self, ability: Ability, first: str, formulation: Formulation) -> None:
        super().__init__(ability, first, formulation)
        self.reading, self.metric = "choices", "accuracy by choices"
        self.scorer = LabelScorer(first, formulation, "choice")


class CalibratedChoices(LabelReading):
    """The same without the model's preference for a label (batch calibration; Zhou et al. 2024).

    `offset` are the mean log-odds of the base model on items set aside; the edited model has the same. The metric is
    the mean recall over the two labels, whose floor is 0.5.
    """

    def __init__(self, ability: Ability, first: str, formulation: Formulation, offset: float = 0.0) -> None:
        super().__init__(ability, first, formulation)
        self.reading, self.metric = "calibrated", "balanced accuracy by choices"
        self.scorer = LabelScorer(first, formulation, "balanced choice", offset)

    def with_offset(self, offset: float) -> "CalibratedChoices":
        """The same reading with the offset that was measured."""
        return CalibratedChoices(self._ability, self.first, self.formulation, offset)

    def floor(self, items: Sequence[Item]) -> float:
        """0.5, the balanced accuracy of any answer that does not depend on the item."""
        return 0.5


def label_readings(ability: Ability, first: str, formulation: Formulation) -> tuple[Ability, ...]:
    """The readings of an ability with two labels: written, by choices, by calibrated choices, by likelihood."""
    kinds = (LabelChoices, CalibratedChoices, LabelLikelihood)
    return (ability, *(kind(ability, first, formulation) for kind in kinds))


@dataclass(frozen=True)
class LabelScorer:
    """Scores the texts of both labels behind the prompt. `kind` is "odds", "choice" or "balanced choice"."""

    first: str
    formulation: Formulation
    kind: str
    offset: float = 0.0
    measured_floor: bool = False

    def continuations(self, item: Item, prompt: str) -> tuple[tuple[str, str], ...]:
        return tuple(one for pair in self.formulation.pairs(item, prompt) for one in (pair.first, pair.second))

    def odds(self, item: Item, scored: Sequence[ScoredText]) -> float:
        """The log-odds of the first label, minus the offset; NaN where a log-probability is."""
        pairs, values = self.formulation.pairs(item, ""), []
        for pair, first, second in zip(pairs, scored[::2], scored[1::2], strict=True):
            apart = first.total - second.total
            values.append(apart / max(1, len(first.tokens)) if pair.per_token else apart)
        return sum(values) / len(values) - self.offset

    def read(self, item: Item, scored: Sequence[ScoredText]) -> tuple[Answer, Score]:
        """The likelier label as the answer. NaN is unparseable and as wrong as possible; a tie is wrong."""
        odds, positive = self.odds(item, scored), item.gold[0] == self.first
        right = (odds > 0) if positive else (odds < 0)
        parseable = math.isfinite(odds)
        text = f"log-odds {odds:+.2f}" if parseable else ""
        answer = Answer(text, round(odds, 6) if parseable else None, parseable)
        hit = int(right and parseable)
        if self.kind == "choice":
            return answer, Score(float(hit))
        if self.kind == "balanced choice":
            return answer, Score(float(hit), counts=(hit, 1, 0, 0) if positive else (0, 0, hit, 1))
        worst = -math.inf if positive else math.inf
        signed = odds if positive else -odds
        probability = 1 / (1 + math.exp(-max(-50.0, min(50.0, signed)))) if parseable else 0.0
        ranked = odds if parseable else worst
        return answer, Score(probability, beside={"accuracy": float(hit)}, odds=ranked, positive=positive)


class OtherPrompts(AbilityWrapper):
    """An ability whose items are asked behind the prompt of another one: the measured floor of a likelihood.

    The other item is the next one in `items` of another cluster, so the floor does not depend on what is asked first.
    """

    def __init__(self, ability: Ability, items: Sequence[Item]) -> None:
        super().__init__(ability)
        self._others = {item.key: items[_next_of_other_cluster(items, place)] for place, item in enumerate(items)}

    def prompt(self, item: Item) -> str:
        return self._ability.prompt(self._others[item.key])


def _next_of_other_cluster(items: Sequence[Item], place: int) -> int:
    """The place of the next item, in a circle, that has another source; the next one if there is none."""
    count = len(items)
    places = ((place + step) % count for step in range(1, count))
    return next((one for one in places if items[one].cluster != items[place].cluster), (place + 1) % count)
