"""The scores of a cell's items, for tests between cells: one line of JSON for each ability.

    scores_from_jsonl(scores_jsonl(scores))

A line has the keys of the items and their scores, never prompts, right answers or answers. Sources that items share
are numbers. Where a score depends on an item's class (AUC, recall by class), the first item's class comes first, so
that the line says which items are of one class and not which class that is.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from audit.answering.paired_answers import PairedAnswers, PairedScores
from audit.store.files import parse_json

FARTHEST = 1e300  # log-odds that stand for infinite ones in a file
DIGITS = 9


@dataclass(frozen=True, eq=False)
class AbilityScores:
    """The paired scores of one ability, of the items with the (n,) `keys`; `floor` is that of the whole reading."""

    ability: str
    floor: float
    keys: tuple[str, ...]
    scores: PairedScores

    @classmethod
    def of(cls, paired: PairedAnswers) -> "AbilityScores":
        """The scores of paired answers."""
        items = paired.base.items
        keys = tuple(item.key for item in items)
        return cls(paired.ability.name, paired.ability.floor(items), keys, _anonymous(paired.scores))


def scores_jsonl(scores: Iterable[AbilityScores]) -> str:
    """One line for each ability."""
    return "".join(json.dumps(_rounded(asdict(one)), allow_nan=False, separators=(",", ":")) + "\n" for one in scores)


def scores_from_jsonl(text: str) -> tuple[AbilityScores, ...]:
    """The scores that `scores_jsonl` wrote.

    Raises:
        ValueError, KeyError, TypeError: the text is something else.
    """
    lines = [parse_json(line) for line in text.splitlines() if line]
    return tuple(
        AbilityScores(one["ability"], one["floor"], tuple(one["keys"]), _without_nulls(PairedScores(**one["scores"])))
        for one in lines
    )


def _anonymous(scores: PairedScores) -> PairedScores:
    """The scores with numbers for sources, and with the class of the first item as the first class."""
    numbers = {cluster: str(place) for place, cluster in enumerate(dict.fromkeys(scores.clusters))}
    scores = replace(scores, clusters=[numbers[cluster] for cluster in scores.clusters])
    if scores.base_odds is not None and scores.edited_odds is not None and scores.positives is not None:
        sign = 1 if scores.positives[0] else -1  # of the other class, whose odds are the opposite
        scores = replace(
            scores,
            base_odds=[sign * odds for odds in scores.base_odds],
            edited_odds=[[sign * odds for odds in row] for row in scores.edited_odds],
            positives=[positive == scores.positives[0] for positive in scores.positives],
        )
    if scores.base_counts is not None and scores.edited_counts is not None and len(scores.base_counts[0]) % 2 == 0:
        # (found, there) for each class: those that the first items belong to come first
        there = [max(range(1, len(row), 2), key=row.__getitem__) for row in scores.base_counts]
        order = [column - side for column in dict.fromkeys(there) for side in (1, 0)]
        order += [column for column in range(len(scores.base_counts[0])) if column not in order]
        scores = replace(
            scores,
            base_counts=[[row[column] for column in order] for row in scores.base_counts],
            edited_counts=[[row[column] for column in order] for row in scores.edited_counts],
        )
    return scores


def _rounded(value: Any) -> Any:
    """The value with floats of nine digits; null for NaN, and a number beyond all odds for an infinite one."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return None
    return float(f"{max(-FARTHEST, min(FARTHEST, value)):.{DIGITS}g}")


def _without_nulls(scores: PairedScores) -> PairedScores:
    def numbers(values: Sequence[float | None]) -> list[float]:
        return [
            math.nan if one is None else math.copysign(math.inf, one) if abs(one) >= FARTHEST else one for one in values
        ]

    if scores.base_odds is None or scores.edited_odds is None:
        return scores
    return replace(scores, base_odds=numbers(scores.base_odds), edited_odds=list(map(numbers, scores.edited_odds)))
