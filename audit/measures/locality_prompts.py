"""Prompts that no edit should affect: random samples for a survey, or a hypothesis strategy that shrinks failures.

    sample = sampled_prompts(topics, "other subjects", count=60, seed=0)   # drawn from the grammar below
    prompts = untouched_prompts(topics, "other subjects")                  # a strategy over the same prompts

A prompt is a core from the topics, possibly with words left out and a sentence in front, inside a frame. The first
option of every choice is the simplest, and hypothesis shrinks to it. A survey does not sample with hypothesis, which
prefers simple and repeated examples: the share of failures would be biased.
"""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar
from unittest import SkipTest

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from audit.measures.locality_topics import OTHER_RELATIONS, Topics

SENTENCES = ("", "Yes.", "It is well known.", "As everybody knows:", "Here is what I read yesterday.")
CASES: tuple[Callable[[str], str], ...] = (str, str.lower, str.upper)  # of the sentence
GAPS = (" ", "\n", "  ", "\n\n")  # between the sentence and what follows
FRAMES = ("{}", '"{}', "({}", "Question: {}?\nAnswer:")
WORD_KEPT = (False, *[True] * 23)  # about one prompt in four loses a word

Choice = TypeVar("Choice")


class Choose(Protocol):
    """Picks one of several options."""

    def __call__(self, choices: Sequence[Choice], /) -> Choice: ...


def sampled_prompts(topics: Topics, kind: str, count: int, seed: int) -> tuple[str, ...]:
    """`count` random prompts of a kind that has cores, fixed by `seed`; a larger count extends the same list."""
    rng = Random(f"{kind} {seed}")
    found: list[str] = []
    while len(found) < count:
        prompt = _prompt(rng.choice, topics, kind)
        if _allowed(topics, kind, prompt):
            found.append(prompt)
    return tuple(found)


def untouched_prompts(topics: Topics, kind: str, disturbed: Sequence[str] = ()) -> st.SearchStrategy[str]:
    """A strategy over all prompts of a kind that has cores, and over parts of the `disturbed` prompts.

    If few prompts are disturbed, a search without these parts might find none.
    """
    prompts = _composed(topics, kind)
    if disturbed:
        names = sorted({word for core in topics.cores[kind] for word in core if " " in word}, key=len, reverse=True)
        # Names are not split, because half a name may belong to another subject.
        letters = "|".join([*map(re.escape, names), r"\S"])
        word = re.compile(rf"(?:{letters})+\s*")
        split = [tuple(word.findall(prompt)) for prompt in disturbed]
        prompts |= _parts(sorted(split, key=len), whole=kind == OTHER_RELATIONS)
    return prompts.filter(lambda prompt: _allowed(topics, kind, prompt))


def law(*, search: bool, seed: int, folder: Path | None) -> Callable[[Callable[[], Any]], Callable[[], None]]:
    """A decorator for a hypothesis test: run the `@example` lines and, with `search`, generated prompts with shrinking.

    Runs with the same seed draw the same prompts. Failing prompts are kept in `folder` and tested first the next time.
    If the environment variable CI is set, hypothesis' "ci" profile is used, and no prompts are kept or read.
    """
    in_ci = bool(os.environ.get("CI"))
    chosen = settings(
        settings.get_profile("ci" if in_ci else "default"),
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink) if search else (Phase.explicit,),
        database=None if in_ci or folder is None else DirectoryBasedExampleDatabase(folder),
        deadline=None,  # a prompt without stored answers takes a forward pass
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
        report_multiple_bugs=False,
        print_blob=False,  # the message contains an @example line instead
    )

    def tested(test: Callable[[], Any]) -> Callable[[], None]:
        prepared = chosen(seeded(seed)(test))  # `seed` removes the database, so settings are applied after it

        def run() -> None:
            with nullcontext() if search else suppress(SkipTest):  # without @example lines, hypothesis skips
                prepared()

        return run

    return tested


@st.composite
def _composed(draw: st.DrawFn, topics: Topics, kind: str) -> str:
    def choose(choices: Sequence[Choice], /) -> Choice:
        return draw(st.sampled_from(choices))

    return _prompt(choose, topics, kind)


@st.composite
def _parts(draw: st.DrawFn, prompts: Sequence[Sequence[str]], *, whole: bool) -> str:
    words = draw(st.sampled_from(prompts))  # each with the following gap
    return "".join([word for word in words if whole or draw(st.sampled_from(WORD_KEPT))] or words[-1:])


def _prompt(choose: Choose, topics: Topics, kind: str) -> str:
    """A prompt of the grammar; `choose` makes every choice.

    No word is left out of a prompt about an edited subject, because the rest might ask for the edited relation.
    """
    core = choose(topics.cores[kind])
    words = core if kind == OTHER_RELATIONS else [word for word in core if choose(WORD_KEPT)] or core[-1:]
    sentence, case, gap = choose(SENTENCES), choose(CASES), choose(GAPS)
    framed = choose(FRAMES).replace("{}", " ".join(words))
    return f"{case(sentence)}{gap}{framed}" if sentence else framed


def _allowed(topics: Topics, kind: str, prompt: str) -> bool:
    """Whether the prompt still avoids the edited subjects: leaving out words could join parts of a name."""
    return kind == OTHER_RELATIONS or not topics.touched(prompt)
