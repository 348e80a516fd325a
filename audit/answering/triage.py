"""Collapse triage: before the long part begins, whether the edited model is still worth asking.

    sentence = triage(models, integrity_of, interview_of, lm)    # None: it is

What is looked at costs next to nothing, since the audit measures it anyway: first the integrity of the edited weights;
only where that is beyond all bounds, the first questions of one written ability after the other, until the answers are
seen to be garbled, through the same log of answers as the abilities themselves. Short answers come first: a collapsed
model does not know where to end.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import Ability, Answers
from audit.answering.interview import Interview
from audit.editing.steps import EditedModel
from audit.errors import AuditError
from audit.measures.collapse import CollapseSigns, WrittenAnswer, signs_of
from audit.measures.integrity import Integrity
from audit.models.language_model import LanguageModel

QUESTIONS = 4  # of each ability


def triage(
    models: Sequence[EditedModel],
    integrity_of: Callable[[EditedModel], Integrity],
    interview_of: Callable[[str], Interview],
    lm: LanguageModel,
) -> str | None:
    """Why every one of the edited models has collapsed; None as soon as one has not.

    `integrity_of` and `interview_of` (by the name of an ability) keep what they find out.
    """
    vocabulary = int(lm.model.config.get_text_config().vocab_size)
    found: list[CollapseSigns] = []
    for model in models:
        signs = signs_of(integrity_of(model), vocabulary)
        if signs.suspicious:
            # One ability more each time, and no further than it takes.
            some = accumulate(first_answers(model, interview_of), initial=())
            signs = next((seen for seen in map(signs.after, some) if seen.collapsed), signs)
        if not signs.collapsed:
            return None
        found.append(signs)
    if not found:
        return None
    several = f" So have the {len(found) - 1} others, each edited for itself." if len(found) > 1 else ""
    return found[0].sentence + several


def first_answers(
    model: EditedModel, interview_of: Callable[[str], Interview]
) -> Iterator[tuple[tuple[WrittenAnswer, WrittenAnswer], ...]]:
    """What base and edited model write to each ability's first questions; one that cannot be asked is left out."""
    for name in sorted(ABILITIES, key=_longest):
        try:
            interview = replace(interview_of(name), models=(model,))
            if interview.ability.decoding is None:
                continue  # a choice is made by a collapsed model as well
            paired = interview.both(interview.questions[:QUESTIONS])
        except AuditError:
            continue
        base, edited = (_written(interview.ability, one) for one in (paired.base, *paired.edited))
        yield tuple(zip(base, edited, strict=True))


def _longest(name: str) -> float:
    """The most tokens that an answer may have; infinite where none is written."""
    decoding = load_ability(name).decoding
    return math.inf if decoding is None else decoding.max_new_tokens


def _written(ability: Ability, asked: Answers) -> list[WrittenAnswer]:
    assert ability.decoding is not None
    longest = ability.decoding.max_new_tokens
    return [
        WrittenAnswer(answer.text, answer.parseable, ended=len(raw["ids"]) < longest)
        for answer, raw in zip(asked.answers, asked.raw, strict=True)
    ]
