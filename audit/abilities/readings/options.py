"""Reading by options that an ability takes from a row or from a fixed list: which one is likeliest, and by how much.

    OptionTexts(labels, chance=False).readings(ability)     # choices, and the probability of the right option

Other than `Item.choices`, which an ability has in every reading, these options are scored in some readings only, so the
same items can also be answered in writing. The golds of an item are the texts of its right options.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from audit.abilities.contract import Ability, Answer, Item, Score, ScoredText
from audit.abilities.readings.likelihood import OptionScorer
from audit.abilities.readings.words import majority
from audit.abilities.wrapper import AbilityWrapper


@dataclass(frozen=True)
class OptionTexts:
    """The options of an item.

    `chance`: the options differ from item to item, so that a model without the ability picks the right one of k with
    probability 1 / k. Fixed labels can be picked by how frequent they are: their floor is the majority class, also for
    the probability of the right label, which no answer that ignores the item can exceed.
    """

    of: Callable[[Item], tuple[str, ...]]
    chance: bool

    def floor(self, items: Sequence[Item]) -> float:
        """The score of a model that does not look at the items. 0 without items."""
        if not self.chance:
            return majority(items)
        return sum(1 / len(self.of(item)) for item in items) / len(items) if items else 0.0

    def readings(self, ability: Ability) -> tuple[Ability, ...]:
        """The ability as it is read by choices and by likelihood."""
        return OptionReading(ability, self, "choices"), OptionReading(ability, self, "likelihood")


class OptionReading(AbilityWrapper):
    """An ability read by its options: "choices" asks whether the right one is likeliest, "likelihood" how likely."""

    def __init__(self, ability: Ability, options: OptionTexts, reading: str) -> None:
        super().__init__(ability)
        metrics = {"choices": "accuracy by choices", "likelihood": "probability of the right option"}
        self.reading, self.metric, self.decoding = reading, metrics[reading], None
        self.scorer = OptionTextScorer(options, reading)
        self._options = options

    def gold_answer(self, item: Item) -> str:
        """The right option, which continues the prompt."""
        return item.gold[0]

    def floor(self, items: Sequence[Item]) -> float:
        return self._options.floor(items)


@dataclass(frozen=True)
class OptionTextScorer:
    """Scores every option of an item behind its prompt. `reading` is "choices" or "likelihood"."""

    options: OptionTexts
    reading: str
    measured_floor: bool = False

    def continuations(self, item: Item, prompt: str) -> tuple[tuple[str, str], ...]:
        return tuple((prompt, option) for option in self.options.of(item))

    def read(self, item: Item, scored: Sequence[ScoredText]) -> tuple[Answer, Score]:
        """The likeliest option as the answer. NaN is unparseable and wrong; a tie for the best is wrong."""
        options = self.options.of(item)
        right = tuple(str(place) for place, option in enumerate(options) if option in item.gold)
        best, score = OptionScorer().read(replace(item, choices=options, gold=right), scored)
        answer = Answer(options[int(best.text)], best.value, True) if best.parseable else best
        if self.reading == "choices":
            return answer, Score(float(best.parseable and best.text in right))
        return answer, score if self.options.chance else replace(score, floor=None)
