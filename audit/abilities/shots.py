"""Worked examples before the question (few-shot), drawn from the training split and the same for every item.

shots = draw_shots(NLI(), source, count=5, seed=0)
WithShots(NLI(), shots).prompt(item)  # five questions with their answers, blank lines between, then the question
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from audit.abilities.contract import Ability, Answer, Item, Row, Score, questions
from audit.abilities.data.origin import Source
from audit.abilities.data.sources import seeded_order
from audit.engine import Decoding
from audit.errors import AuditError

BETWEEN = "\n\n"  # what stands between two examples


@dataclass(frozen=True)
class Shot:
    """A question as it is asked, and a right answer to it."""

    question: str
    answer: str


class Around:
    """An ability with something around its question; all else is the ability's own. A wrapper overrides `prompt`."""

    def __init__(self, ability: Ability) -> None:
        self._ability = ability
        self.name = ability.name
        self.title = ability.title
        self.data_name = ability.data_name
        self.metric = ability.metric
        self.protocol = ability.protocol
        self.decoding: Decoding | None = ability.decoding

    def item(self, row: Row, key: str) -> Item:
        return self._ability.item(row, key)

    def several(self, row: Row, key: str) -> tuple[Item, ...]:
        return questions(self._ability, row, key)

    def prompt(self, item: Item) -> str:
        return self._ability.prompt(item)

    def parse(self, text: str) -> Answer:
        return self._ability.parse(text)

    def score(self, item: Item, answer: Answer) -> Score:
        return self._ability.score(item, answer)

    def worked(self, item: Item) -> str:
        return self._ability.worked(item)

    def floor(self, items: Sequence[Item]) -> float:
        return self._ability.floor(items)


class WithShots(Around):
    """Worked examples, then the question. An answer also ends where the next example would begin."""

    def __init__(self, ability: Ability, shots: Sequence[Shot]) -> None:
        super().__init__(ability)
        self._header = "".join(f"{shot.question} {shot.answer}{BETWEEN}" for shot in shots)
        if ability.decoding is not None and not any(stop in BETWEEN for stop in ability.decoding.stop):
            self.decoding = replace(ability.decoding, stop=(*ability.decoding.stop, BETWEEN))

    def prompt(self, item: Item) -> str:
        return self._header + super().prompt(item)


def draw_shots(ability: Ability, source: Source, count: int, seed: int) -> tuple[Shot, ...]:
    """`count` rows of the training split with their answers, in a seeded order.

    Left out are rows that are asked too, or share a passage, premise or article with one that is (the splits of real
    data sets overlap), whatever the limit; and rows that are not usable, for an example measures nothing.

    Raises:
        AuditError: the source has no training rows for this ability, or fewer usable ones than `count`.
    """
    rows = source.training_rows(ability.name)
    asked = [item for k, row in enumerate(source.rows(ability.name)) if (item := _usable(ability, row, k)) is not None]
    taken = {item.cluster for item in asked} | {ability.prompt(item) for item in asked}
    shots: list[Shot] = []
    for index in seeded_order(len(rows), f"{seed}:{ability.name}:training"):
        if len(shots) == count:
            break
        item = _usable(ability, rows[index], f"training {index}")
        if item is not None and item.cluster not in taken and ability.prompt(item) not in taken:
            shots.append(Shot(ability.prompt(item), ability.worked(item)))
    if len(shots) < count:
        raise AuditError(
            f"{count} worked examples are wanted, and {ability.name} has {len(shots)} in the training split of "
            f"{source.name}; ask with --shots {len(shots)} at most"
        )
    return tuple(shots)


def _usable(ability: Ability, row: Row, number: int | str) -> Item | None:
    try:
        return ability.item(row, f"{ability.name}/{number}")
    except AuditError:
        return None
