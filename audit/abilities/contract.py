"""The contract of an ability, and the types that data, engine, scores and verdicts share: items, answers, scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from audit.engine import Decoding

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """One row of an ability as it is put to a model.

    `key` is unique in a run ("nli/17"). `fields` is the row in the columns of the real data set. `gold` holds what
    `Ability.score` compares with: accepted answers, all entities, or the index of the right choice. Items with the same
    `cluster` share a source. `choices` is empty for free text; otherwise the engine ranks these continuations of the
    prompt by log-likelihood.
    """

    key: str
    ability: str
    fields: Row
    gold: tuple[str, ...]
    cluster: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """A model's text and its parsed `value` (JSON-serializable). An answer that is not `parseable` counts as wrong."""

    text: str
    value: Any
    parseable: bool


@dataclass(frozen=True)
class Score:
    """The score of one answer: `value` in [0, 1], and for a corpus metric `counts`, which are summed over the items.

    Three counts are the true positives, false positives and misses of a corpus F1. An even number of counts is a pair
    (found, total) for each class, for recall by class. `beside` holds other numbers for the reports (token F1, the
    three ROUGE values); verdicts do not read it.

    `floor` is the item's own floor, where the reading has one for each item. `odds` are the log-odds of the first of
    two labels, for an area under the ROC curve (AUC); `positive` says whether the first label is the right one.
    """

    value: float
    counts: tuple[int, ...] = ()
    beside: Mapping[str, float] = field(default_factory=dict)
    floor: float | None = None
    odds: float | None = None
    positive: bool = False


@dataclass(frozen=True)
class ScoredText:
    """A continuation's tokens as text, and their natural log-probabilities given the prompt; NaN is possible.

    `greedy` says whether every token is the likeliest one after those before it; None unless the scorer is verbatim.
    """

    tokens: tuple[str, ...]
    log_probabilities: tuple[float, ...]
    greedy: bool | None = None

    @property
    def total(self) -> float:
        """The log-probability of the whole continuation."""
        return math.fsum(self.log_probabilities) if all(map(math.isfinite, self.log_probabilities)) else math.nan


class Scorer(Protocol):
    """How the log-probabilities of given continuations become an answer and a score; the model writes nothing."""

    @property
    def measured_floor(self) -> bool:
        """Whether an item's floor is the score of the same continuations behind another item's prompt."""
        ...

    def continuations(self, item: Item, prompt: str) -> tuple[tuple[str, str], ...]:
        """The pairs of prompt and continuation to score; `prompt` is the item's, with examples and chat template."""
        ...

    def read(self, item: Item, scored: Sequence[ScoredText]) -> tuple[Answer, Score]:
        """The answer and its score, from the scored continuations in the order of `continuations`."""
        ...


class Ability(Protocol):
    """One task: its prompt, decoding, parser, metric, floor and cluster key, all in one file.

    `prompt` returns the text that the model continues; `score` compares a parsed answer with the item's `gold`.
    """

    name: str
    title: str
    data_name: str
    metric: str
    protocol: str  # "standard" or "gu2024": which prompts and metrics are used
    reading: str  # "answers", "choices", "calibrated" or "likelihood": how an item becomes a score
    decoding: Decoding | None  # None: nothing is written, and the item's choices are ranked
    scorer: Scorer | None  # reads other continuations than the item's choices; None for written answers and choices

    def item(self, row: Row, key: str) -> Item:
        """The item of a row. Raises `AuditError`, which names the column, if one is missing or has no usable value."""
        ...

    def prompt(self, item: Item) -> str: ...

    def parse(self, text: str) -> Answer:
        """Parse an answer. For choices, `text` is the index of the best choice, or "" if a value is not finite."""
        ...

    def score(self, item: Item, answer: Answer) -> Score: ...

    def gold_answer(self, item: Item) -> str:
        """A right answer as it follows the prompt, without its leading space; used in worked examples."""
        ...

    def floor(self, items: Sequence[Item]) -> float:
        """The score on these items of a model that cannot do the task (majority class, best constant, chance, or 0)."""
        ...


@runtime_checkable
class ManyReadings(Protocol):
    """An ability that can be read in several ways."""

    def readings(self) -> tuple[Ability, ...]:
        """The ability as it is read in each way, in order of preference; the first is the ability itself."""
        ...


@runtime_checkable
class MultiItemAbility(Protocol):
    """An ability that makes several items from one row with `items`; they share the row's cluster."""

    def items(self, row: Row, key: str) -> tuple[Item, ...]: ...


def readings_of(ability: Ability) -> tuple[Ability, ...]:
    """The readings of an ability, in order of preference; those of a protocol of its own are fixed."""
    several = isinstance(ability, ManyReadings) and ability.protocol == "standard"
    return ability.readings() if several and isinstance(ability, ManyReadings) else (ability,)


def is_graded(ability: Ability) -> bool:
    """Whether an answer can be partly right: `graded` of the ability, False where it has no such member."""
    return bool(getattr(ability, "graded", False))


def is_verbatim(scorer: Scorer) -> bool:
    """Whether prompts and continuations are joined as they are, without a space between them: `verbatim` of the scorer.

    `ScoredText.greedy` is then known. False where the scorer has no such member.
    """
    return bool(getattr(scorer, "verbatim", False))


def has_own_prompts(ability: Ability) -> bool:
    """Whether worked examples and chat templates are its own affair: `own_prompts` of the ability, else False."""
    return bool(getattr(ability, "own_prompts", False))


def items_of(ability: Ability, row: Row, key: str) -> tuple[Item, ...]:
    """The items of a row: one, or several for a `MultiItemAbility`."""
    return ability.items(row, key) if isinstance(ability, MultiItemAbility) else (ability.item(row, key),)


@dataclass(frozen=True)
class Answers:
    """The answers and scores of one model state to items of one ability, in the order of the items.

    `raw` is the engine's output for each item: a text with its token ids, or the log-likelihood of every choice.
    `from_store` is the number of answers that an earlier run stored.
    """

    ability: str
    items: tuple[Item, ...]
    answers: tuple[Answer, ...]
    scores: tuple[Score, ...]
    raw: tuple[Any, ...] = ()
    from_store: int = 0
