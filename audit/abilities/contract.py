"""What an ability is: the words that data, engine, scores and verdicts share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from audit.engine import Decoding

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """One question. `fields` is the row in the real data set's columns; `cluster` groups items that share a source.

    `choices` is empty for free text; else the engine ranks these continuations of the prompt by log-likelihood.
    """

    key: str
    ability: str
    fields: Row
    gold: tuple[str, ...]
    cluster: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What the model said. `value` is the parsed answer (JSON-able); `parseable` False counts as wrong."""

    text: str
    value: Any
    parseable: bool


@dataclass(frozen=True)
class Score:
    """`value` in [0, 1]; corpus metrics also keep `counts`, which are summed over the items.

    Three counts are (true positives, false positives, misses) of a corpus F1; an even number of them is a pair (found,
    there to be found) for every class, of a recall by class.
    `beside` holds further numbers worth showing (token F1, the three ROUGE values); no verdict reads them.
    """

    value: float
    counts: tuple[int, ...] = ()
    beside: Mapping[str, float] = field(default_factory=dict)


class Ability(Protocol):
    """One task, with prompt, decoding, parser, metric, chance floor and cluster key in view together in one file."""

    name: str
    title: str
    data_name: str
    metric: str
    protocol: str  # how it is asked and scored: "standard" or "gu2024"
    decoding: Decoding | None  # None: the items carry choices, to be ranked

    def item(self, row: Row, key: str) -> Item:
        """Turn a row into an item, or raise `AuditError` that names the missing or empty column."""
        ...

    def prompt(self, item: Item) -> str: ...

    def parse(self, text: str) -> Answer:
        """Read an answer. For choices, `text` is the index of the best-ranked option, or "" when none is finite."""
        ...

    def score(self, item: Item, answer: Answer) -> Score: ...

    def worked(self, item: Item) -> str:
        """A right answer as it would follow the prompt, without its leading blank: for worked examples."""
        ...

    def floor(self, items: Sequence[Item]) -> float:
        """What a model that cannot do the task scores on these items (majority class, best constant, or 0)."""
        ...


@runtime_checkable
class AsksSeveral(Protocol):
    """An ability that asks several questions about one row; they share the row's cluster."""

    def several(self, row: Row, key: str) -> tuple[Item, ...]: ...


def questions(ability: Ability, row: Row, key: str) -> tuple[Item, ...]:
    """The items that a row becomes: one, unless the ability asks several about it."""
    return ability.several(row, key) if isinstance(ability, AsksSeveral) else (ability.item(row, key),)


@dataclass(frozen=True)
class Answers:
    """Items of one ability with answers and scores of one model state, in item order.

    `raw` is what the engine gave for each: a text with its token ids, or the log-likelihood of every choice.
    `from_store` counts the answers that an earlier run had given.
    """

    ability: str
    items: tuple[Item, ...]
    answers: tuple[Answer, ...]
    scores: tuple[Score, ...]
    raw: tuple[Any, ...] = ()
    from_store: int = 0
