"""Paired answers: those of the base model and of the edited models to the same items, with their scores.

    base = read_raw(ability, items, raw)
    paired = PairedAnswers(ability, base, edited)
    paired.verdict(margin=0.05, seed=0).outcome
    paired.part(0, 16).scores

No model is needed, so saved raw output is parsed and scored by the same functions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from audit.abilities.contract import Ability, Answers, Item, ScoredText
from audit.abilities.readings.choices import best_choice
from audit.engine import after_thinking
from audit.store.content import content_fingerprint
from audit.verdicts import Verdict
from audit.verdicts.alarm import harm_p_value
from audit.verdicts.margins import Margin
from audit.verdicts.verdict import judge

# {"text": ..., "ids": [...]} of a written answer, the log-likelihood of every choice, or for a `Scorer`
# {"tokens": [[...], ...], "log_probabilities": [[...], ...]} of every continuation, and
# "greedy": [...] where its scorer is verbatim
Raw = Any


def read_raw(ability: Ability, items: Sequence[Item], raw: Sequence[Raw], from_store: int = 0) -> Answers:
    """Parse and score raw output; `from_store` is how many of the answers were stored before."""
    if ability.scorer is not None:
        read = [ability.scorer.read(item, scored_texts(one)) for item, one in zip(items, raw, strict=True)]
        found, values = tuple(answer for answer, _ in read), tuple(score for _, score in read)
        return Answers(ability.name, tuple(items), found, values, tuple(raw), from_store)
    if ability.decoding is None:
        texts = [best_choice(item, one) for item, one in zip(items, raw, strict=True)]
    else:
        texts = [one["text"] for one in raw]
    answers = tuple(replace(ability.parse(after_thinking(text) or ""), text=text) for text in texts)
    scores = tuple(ability.score(item, answer) for item, answer in zip(items, answers, strict=True))
    return Answers(ability.name, tuple(items), answers, scores, tuple(raw), from_store)


def scored_texts(raw: Raw) -> tuple[ScoredText, ...]:
    """The scored continuations of one item."""
    greedy = raw.get("greedy") or [None] * len(raw["tokens"])
    parts = zip(raw["tokens"], raw["log_probabilities"], greedy, strict=True)
    return tuple(ScoredText(tuple(tokens), tuple(values), one) for tokens, values, one in parts)


def items_fingerprint(ability: Ability, items: Sequence[Item]) -> str:
    """sha256 over the items and their gold answers, in order."""
    return content_fingerprint([[i.key, ability.prompt(i), list(i.choices), list(i.gold), i.cluster] for i in items])


@dataclass(frozen=True)
class PairedScores:
    """The scores of the base model and the mean over the edited models, item by item, as verdicts take them.

    `base` and `edited` (n,) are in [0, 1]; `clusters` (n,) names the source of each item; the counts (n, counts) are
    those of a corpus metric, None where the metric is a mean. `floors` (n,) are the items' own floors. `base_odds` (n,)
    and `edited_odds` (n, models) are log-odds for an AUC, with `positives` (n,).
    """

    base: Sequence[float]
    edited: Sequence[float]
    clusters: Sequence[str]
    base_counts: Sequence[Sequence[float]] | None
    edited_counts: Sequence[Sequence[float]] | None
    floors: Sequence[float] | None = None
    base_odds: Sequence[float] | None = None
    edited_odds: Sequence[Sequence[float]] | None = None
    positives: Sequence[bool] | None = None

    def part(self, start: int, end: int) -> "PairedScores":
        """The scores of the items from `start` up to `end`."""
        return replace(self, **{name: one[start:end] for name, one in vars(self).items() if one is not None})


@dataclass(frozen=True, eq=False)
class PairedAnswers:
    """Answers of the base model and of each edited model (one, unless each edit has its own model).

    All hold the same items in the same order. `floors` are the base model's answers behind other items' prompts, whose
    scores are the items' floors; None where the floor is not measured so.
    """

    ability: Ability
    base: Answers
    edited: tuple[Answers, ...]
    floors: Answers | None = None

    @property
    def scores(self) -> PairedScores:
        """The scores item by item."""
        n = len(self.base.items)
        counted = any(score.counts for score in self.base.scores)
        ranked = any(score.odds is not None for score in self.base.scores)
        return PairedScores(
            base=[score.value for score in self.base.scores],
            edited=[sum(model.scores[k].value for model in self.edited) / len(self.edited) for k in range(n)],
            clusters=[item.cluster for item in self.base.items],
            base_counts=_mean_counts([self.base]) if counted else None,
            edited_counts=_mean_counts(self.edited) if counted else None,
            floors=self._item_floors(),
            base_odds=_odds(self.base) if ranked else None,
            edited_odds=list(zip(*map(_odds, self.edited), strict=True)) if ranked else None,
            positives=[score.positive for score in self.base.scores] if ranked else None,
        )

    def _item_floors(self) -> list[float] | None:
        """The floor of each item, where the reading has one."""
        if self.floors is not None:
            return [score.value for score in self.floors.scores]
        floors = [score.floor for score in self.base.scores]
        return [floor for floor in floors if floor is not None] if None not in floors else None

    def verdict(self, *, margin: float | Margin, seed: int) -> Verdict:
        """The verdict about the drop from the base model to the mean over the edited models, from all items."""
        return judge(**vars(self.scores), margin=margin, floor=self.ability.floor(self.base.items), seed=seed)

    def harm_p_value(self, *, seed: int) -> float:
        """The probability of such a drop if no answer was harmed, from all items."""
        return harm_p_value(**vars(self.scores), seed=seed)

    def part(self, start: int, end: int) -> "PairedAnswers":
        """The answers to the items from `start` up to `end`."""
        edited = tuple(_part(one, start, end) for one in self.edited)
        floors = None if self.floors is None else _part(self.floors, start, end)
        return PairedAnswers(self.ability, _part(self.base, start, end), edited, floors)

    def joined(self, other: "PairedAnswers") -> "PairedAnswers":
        """These answers followed by those of the same models to other items."""
        edited = tuple(_joined(one, more) for one, more in zip(self.edited, other.edited, strict=True))
        floors = None if self.floors is None or other.floors is None else _joined(self.floors, other.floors)
        return PairedAnswers(self.ability, _joined(self.base, other.base), edited, floors)


def _odds(answers: Answers) -> list[float]:
    return [math.nan if score.odds is None else score.odds for score in answers.scores]


def _mean_counts(models: Sequence[Answers]) -> list[list[float]]:
    """(n, counts): what each item adds to a corpus metric, averaged over the models."""
    rows = zip(*([score.counts for score in model.scores] for model in models), strict=True)
    return [[sum(column) / len(models) for column in zip(*row, strict=True)] for row in rows]


def _part(answers: Answers, start: int, end: int) -> Answers:
    """Some of the answers; they count as taken from the store only if all answers were."""
    known = end - start if answers.from_store == len(answers.items) else 0
    cut = slice(start, end)
    return Answers(
        answers.ability, answers.items[cut], answers.answers[cut], answers.scores[cut], answers.raw[cut], known
    )


def _joined(first: Answers, then: Answers) -> Answers:
    return Answers(
        first.ability,
        first.items + then.items,
        first.answers + then.answers,
        first.scores + then.scores,
        first.raw + then.raw,
        first.from_store + then.from_store,
    )
