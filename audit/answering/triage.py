"""Triage: whether the edited models have collapsed, before the abilities are asked.

    sentence = triage(patches, integrity_of, ability_run_of, lm)    # None: not every model has collapsed

It costs little. The integrity of the edited weights comes first, which the audit measures in any case. Only if that is
far out of bounds, the model answers the first items of one written ability after the other until its answers are
garbled; the audit stores these answers too. Abilities with short answers come first, because a collapsed model writes
up to the limit.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from audit.abilities.contract import Ability, Answers
from audit.abilities.registry import Abilities
from audit.answering.run_answers import AbilityRun
from audit.errors import AuditError
from audit.measures.collapse import CollapseSigns, WrittenAnswer, signs_of
from audit.measures.integrity import Integrity
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch

ITEMS = 4  # of each ability
BUILT_IN = Abilities()


def triage(
    patches: Sequence[Patch],
    integrity_of: Callable[[Patch], Integrity],
    ability_run_of: Callable[[str], AbilityRun],
    lm: LanguageModel,
    abilities: Abilities = BUILT_IN,
) -> str | None:
    """The sentence that says why every edited model has collapsed; None as soon as one has not.

    `integrity_of` and `ability_run_of` (by the name of an ability, asked for written answers) keep their results.
    `abilities` are those of the run.
    """
    vocabulary = int(lm.model.config.get_text_config().vocab_size)
    found: list[CollapseSigns] = []
    for patch in patches:
        signs = signs_of(integrity_of(patch), vocabulary)
        if signs.suspicious:
            # One more ability at a time, until the signs suffice.
            some = accumulate(first_answers(patch, ability_run_of, abilities), initial=())
            signs = next((seen for seen in map(signs.after, some) if seen.collapsed), signs)
        if not signs.collapsed:
            return None
        found.append(signs)
    if not found:
        return None
    several = f" So have the {len(found) - 1} others, each edited for itself." if len(found) > 1 else ""
    return found[0].sentence + several


def first_answers(
    patch: Patch, ability_run_of: Callable[[str], AbilityRun], abilities: Abilities = BUILT_IN
) -> Iterator[tuple[tuple[WrittenAnswer, WrittenAnswer], ...]]:
    """The answers of the base model and the edited model to each ability's first items, in pairs.

    Abilities that are ranked or cannot be asked are left out.
    """
    for name in sorted(abilities.names, key=lambda name: _longest(abilities.load(name))):
        try:
            run = replace(ability_run_of(name), patches=(patch,))
            if run.ability.decoding is None:
                continue  # a collapsed model also makes a choice
            paired = run.paired_answers(run.items[:ITEMS])
        except AuditError:
            continue
        base, edited = (_written(run.ability, one) for one in (paired.base, *paired.edited))
        yield tuple(zip(base, edited, strict=True))


def _longest(ability: Ability) -> float:
    """The maximum number of tokens of an answer; infinite for an ability that is ranked."""
    return math.inf if ability.decoding is None else ability.decoding.max_new_tokens


def _written(ability: Ability, answers: Answers) -> list[WrittenAnswer]:
    assert ability.decoding is not None
    longest = ability.decoding.max_new_tokens
    return [
        WrittenAnswer(answer.text, answer.parseable, ended=len(raw["ids"]) < longest)
        for answer, raw in zip(answers.answers, answers.raw, strict=True)
    ]
