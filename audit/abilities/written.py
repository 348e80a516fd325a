"""The base class of an ability of one's own: answers in writing, which must equal a gold."""

from collections.abc import Sequence

from audit.abilities.contract import Ability, Answer, Item, Row, Score, Scorer
from audit.abilities.readings.words import exact_match, majority, squad_normalized
from audit.engine import Decoding


class WrittenAbility:
    """An ability with written answers, scored by exact match after SQuAD's normalization.

    A subclass has `name`, `item` and `prompt`, and overrides what differs: `decoding`, `parse`, `score`, `metric`,
    `floor`. `title` is the name in reports and `data_name` that of its file in a --data folder; both are `name` where
    they are left out. With `readings` it can be read in other ways as well (`audit.abilities.readings`), and with a
    `source` it brings its own rows (`audit.abilities.data.files.FileSource`).
    """

    name: str
    title: str
    data_name: str
    metric = "exact match"
    protocol = "standard"
    reading = "answers"
    decoding: Decoding | None = Decoding(32)
    scorer: Scorer | None = None
    graded = False  # whether the score of an item may lie between 0 and 1

    def __init_subclass__(cls) -> None:
        """Fill in the title and the name of the data."""
        for member in ("title", "data_name"):
            if not hasattr(cls, member) and hasattr(cls, "name"):
                setattr(cls, member, cls.name)

    def readings(self) -> tuple[Ability, ...]:
        """Written answers only."""
        return (self,)

    def item(self, row: Row, key: str) -> Item:
        raise NotImplementedError

    def prompt(self, item: Item) -> str:
        raise NotImplementedError

    def parse(self, text: str) -> Answer:
        answer = text.strip()
        return Answer(text, answer, True) if squad_normalized(answer) else Answer(text, None, False)

    def score(self, item: Item, answer: Answer) -> Score:
        return Score(exact_match(answer.value, item.gold) if answer.parseable else 0.0)

    def gold_answer(self, item: Item) -> str:
        return item.gold[0]

    def floor(self, items: Sequence[Item]) -> float:
        """The share of the most common gold: the score of a model that always gives this answer."""
        return majority(items)
