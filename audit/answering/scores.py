"""From an engine's raw output to answers and scores: no model is needed, so saved output is read in the same way."""

from collections.abc import Sequence
from typing import Any

from audit.abilities.contract import Ability, Answers, Item
from audit.abilities.readings.choices import best_choice
from audit.store.content import content_fingerprint

Raw = Any  # {"text": ..., "ids": [...]} of a written answer, or the log-likelihood of every choice


def read_raw(ability: Ability, items: Sequence[Item], raw: Sequence[Raw], from_store: int = 0) -> Answers:
    """Parse and score raw output; `from_store` is how many of the answers were there already."""
    if ability.decoding is None:
        texts = [best_choice(item, one) for item, one in zip(items, raw, strict=True)]
    else:
        texts = [one["text"] for one in raw]
    answers = tuple(ability.parse(text) for text in texts)
    scores = tuple(ability.score(item, answer) for item, answer in zip(items, answers, strict=True))
    return Answers(ability.name, tuple(items), answers, scores, tuple(raw), from_store)


def items_fingerprint(ability: Ability, items: Sequence[Item]) -> str:
    """sha256 over the questions and what counts as right, in order."""
    return content_fingerprint([[i.key, ability.prompt(i), list(i.choices), list(i.gold), i.cluster] for i in items])
