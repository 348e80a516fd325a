"""An ability that delegates to another one: the base of other readings and other presentations of an ability."""

from collections.abc import Sequence

from audit.abilities.contract import Ability, Answer, Item, Row, Score, Scorer, is_graded, items_of
from audit.engine import Decoding


class AbilityWrapper:
    """Delegates everything to another ability; a subclass overrides what it changes."""

    def __init__(self, ability: Ability) -> None:
        self._ability = ability
        self.name = ability.name
        self.title = ability.title
        self.data_name = ability.data_name
        self.metric = ability.metric
        self.protocol = ability.protocol
        self.reading = ability.reading
        self.decoding: Decoding | None = ability.decoding
        self.scorer: Scorer | None = ability.scorer
        self.graded = is_graded(ability)

    def item(self, row: Row, key: str) -> Item:
        return self._ability.item(row, key)

    def items(self, row: Row, key: str) -> tuple[Item, ...]:
        return items_of(self._ability, row, key)

    def prompt(self, item: Item) -> str:
        return self._ability.prompt(item)

    def parse(self, text: str) -> Answer:
        return self._ability.parse(text)

    def score(self, item: Item, answer: Answer) -> Score:
        return self._ability.score(item, answer)

    def gold_answer(self, item: Item) -> str:
        return self._ability.gold_answer(item)

    def floor(self, items: Sequence[Item]) -> float:
        return self._ability.floor(items)
