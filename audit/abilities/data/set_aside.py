"""Rows that are set aside: for worked examples, and to choose how an ability is asked. They are never judged.

    rows = set_aside(ability, source, limit=200, seed=0)
    rows.examples, rows.pilot, rows.judged

They are test rows beyond the limit where there are enough, else training rows, else a part of the test rows, of which
then fewer are judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from audit.abilities.contract import Ability, Item, Row, items_of
from audit.abilities.data import Source
from audit.abilities.data.sources import seeded_order
from audit.errors import AuditError

EXAMPLES, PILOT = 8, 56  # items: for worked examples, and for the choice
LARGEST_SHARE = 0.3  # of the test rows, where there are no others
FEWEST = 16  # items; of fewer a choice would be chance


@dataclass(frozen=True)
class SetAside:
    """Items that are set aside, and how many test rows, in the seeded order, are left to be judged."""

    examples: tuple[Item, ...]
    pilot: tuple[Item, ...]
    judged: int

    @property
    def enough(self) -> bool:
        """Whether the pilot is large enough for a choice."""
        return len(self.pilot) >= FEWEST


def set_aside(ability: Ability, source: Source, limit: int, seed: int) -> SetAside:
    """The items set aside for a run with this limit and seed.

    Rows that are not usable are left out, and so are those that share a cluster or a prompt with a judged item.
    """
    rows, wanted = source.rows(ability.name), EXAMPLES + PILOT
    order = seeded_order(len(rows), f"{seed}:{ability.name}")
    if len(rows) >= limit + wanted:
        judged, others = limit, [(rows[index], f"{ability.name}/{index}") for index in order[-wanted:]]
    elif training := _training_rows(ability, source, seed):
        judged, others = min(limit, len(rows)), training
    else:
        count = min(wanted, max(int(LARGEST_SHARE * len(rows)), len(rows) - limit))
        judged = min(limit, len(rows) - count)
        others = [(rows[index], f"{ability.name}/{index}") for index in order[len(rows) - count :]]
    kept = [item for index in order[:judged] for item in _usable(ability, rows[index], f"{ability.name}/{index}")]
    sources, prompts = {item.cluster for item in kept}, {ability.prompt(item) for item in kept}
    found: list[Item] = []
    for row, key in others:
        fresh = [one for one in _usable(ability, row, key) if one.cluster not in sources]
        found += [one for one in fresh if ability.prompt(one) not in prompts]
        if len(found) >= wanted:
            break
    examples = _alternating(found)[: min(EXAMPLES, len(found) // 4)]
    taken = {item.cluster for item in examples}
    return SetAside(tuple(examples), tuple(one for one in found if one.cluster not in taken)[:PILOT], judged)


def _training_rows(ability: Ability, source: Source, seed: int) -> list[tuple[Row, str]]:
    """Training rows with their keys, in a seeded order; empty without a training split, or if it is too small."""
    try:
        rows = source.training_rows(ability.name)
    except AuditError:
        return []
    if len(rows) < EXAMPLES + FEWEST:
        return []
    order = seeded_order(len(rows), f"{seed}:{ability.name}:training")
    return [(rows[index], f"{ability.name}/training {index}") for index in order]


def _usable(ability: Ability, row: Row, key: str) -> tuple[Item, ...]:
    try:
        return items_of(ability, row, key)
    except AuditError:
        return ()


def _alternating(items: Sequence[Item]) -> list[Item]:
    """The items with their golds in turn where there are two, so that examples show both labels; else as they are."""
    labels = list(dict.fromkeys(item.gold for item in items))
    if len(labels) != 2:
        return list(items)
    first, second = ([item for item in items if item.gold == label] for label in labels)
    return [item for pair in zip(first, second, strict=False) for item in pair]
