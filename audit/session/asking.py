"""Asking a model an ability's items: prompts in, raw output of the engine, parsed answers and scores out.

Only the raw output (texts, or log-likelihoods of choices) is ever stored, under a key that holds all it depends on; so
a better parser or metric reads old answers anew, and other weights never get them.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from audit.abilities.choices import best_choice
from audit.abilities.contract import Ability, AskedItems, Item
from audit.engine.generation import generate
from audit.engine.ranking import rank
from audit.models.fingerprints import content_fingerprint
from audit.models.language_model import LanguageModel

# Raise it whenever the engine may give another answer to the same question, so that stored answers are asked again.
ENGINE_VERSION = 1

Raw = list[Any]  # one text an item, or one list of log-likelihoods an item


def ask_raw(lm: LanguageModel, ability: Ability, items: Sequence[Item], progress: Any = None) -> Raw:
    """What the engine gives back for each item, in order: a text, or the log-likelihood of every choice."""
    prompts = [ability.prompt(item) for item in items]
    if ability.decoding is None:
        return list(rank(lm, prompts, [item.choices for item in items], progress=progress))
    return list(generate(lm, prompts, ability.decoding, progress=progress))


def read_raw(ability: Ability, items: Sequence[Item], raw: Raw) -> AskedItems:
    """Parse and score raw output."""
    texts = raw if ability.decoding is not None else [best_choice(i, r) for i, r in zip(items, raw, strict=True)]
    answers = tuple(ability.parse(text) for text in texts)
    scores = tuple(ability.score(item, answer) for item, answer in zip(items, answers, strict=True))
    return AskedItems(ability.name, tuple(items), answers, scores)


def answers_key(lm: LanguageModel, weights: str, tokenizer: str, ability: Ability, items: Sequence[Item]) -> str:
    """The store's key of an ability's raw output: sha256 over everything that decides it.

    `weights` and `tokenizer` are fingerprints of what is loaded, never names: an edited model has the same name.
    """
    return content_fingerprint(
        {
            "kind": "raw answers",
            "engine": ENGINE_VERSION,
            "weights": weights,
            "tokenizer": tokenizer,
            "dtype": str(lm.dtype),
            "device": lm.device.type,
            "ability": ability.name,
            "decoding": None if ability.decoding is None else asdict(ability.decoding),
            "questions": [[ability.prompt(item), list(item.choices)] for item in items],
        }
    )


def items_fingerprint(ability: Ability, items: Sequence[Item]) -> str:
    """sha256 over the questions and what counts as right, in order."""
    return content_fingerprint([[i.key, ability.prompt(i), list(i.choices), list(i.gold), i.cluster] for i in items])
