"""Prompts about what no edit touched: drawn at random for a survey, or by hypothesis in search of the simplest.

    sample = drawn(topics, "other subjects", count=60, seed=0)     # as likely as the grammar below says
    prompts = untouched_prompts(topics, "other subjects")          # a strategy over the same prompts

A prompt is a core from the topics, some of its words left out, with or without a sentence before it, in a frame. The
first of every choice is the simplest, and what hypothesis shrinks to: the shortest core, a word left out, nothing else.
A survey draws by itself, since hypothesis favours simple and repeated examples, and a share of those means nothing.
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
    """Takes one of several."""

    def __call__(self, choices: Sequence[Choice], /) -> Choice: ...


def drawn(topics: Topics, kind: str, count: int, seed: int) -> tuple[str, ...]:
    """`count` prompts of a kind of which there are cores, the same for the same seed; a larger count appends."""
    rng = Random(f"{kind} {seed}")
    found: list[str] = []
    while len(found) < count:
        prompt = _prompt(rng.choice, topics, kind)
        if _allowed(topics, kind, prompt):
            found.append(prompt)
    return tuple(found)


def untouched_prompts(topics: Topics, kind: str, disturbed: Sequence[str] = ()) -> st.SearchStrategy[str]:
    """A strategy over all prompts of a kind of which there are cores, and over parts of those known to be `disturbed`.

    Where few prompts are disturbed, a search that knew of none might not come across one.
    """
    prompts = _composed(topics, kind)
    if disturbed:
        names = sorted({word for core in topics.cores[kind] for word in core if " " in word}, key=len, reverse=True)
        letters = "|".join([*map(re.escape, names), r"\S"])  # a name is one letter: half of it is somebody else's too
        word = re.compile(rf"(?:{letters})+\s*")
        split = [tuple(word.findall(prompt)) for prompt in disturbed]
        prompts |= _parts(sorted(split, key=len), whole=kind == OTHER_RELATIONS)
    return prompts.filter(lambda prompt: _allowed(topics, kind, prompt))


def law(*, search: bool, seed: int, folder: Path | None) -> Callable[[Callable[[], Any]], Callable[[], None]]:
    """How a law is tested: the `@example` lines always; with `search`, other prompts too, and what fails is shrunk.

    Two runs with the same seed draw the same prompts. What failed is kept in `folder` and asked first the next time;
    where the environment says CI, hypothesis' own profile for it holds, and nothing is kept or taken from there.
    """
    in_ci = bool(os.environ.get("CI"))
    chosen = settings(
        settings.get_profile("ci" if in_ci else "default"),
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink) if search else (Phase.explicit,),
        database=None if in_ci or folder is None else DirectoryBasedExampleDatabase(folder),
        deadline=None,  # a prompt that was not asked yet takes as long as the model does
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
        report_multiple_bugs=False,
        print_blob=False,  # the @example line says it in words
    )

    def tested(test: Callable[[], Any]) -> Callable[[], None]:
        prepared = chosen(seeded(seed)(test))  # a seed takes the database away, so settings come after it

        def run() -> None:
            with nullcontext() if search else suppress(SkipTest):  # no line was pasted: hypothesis has nothing to do
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
    words = draw(st.sampled_from(prompts))  # each with the gap that follows it
    return "".join([word for word in words if whole or draw(st.sampled_from(WORD_KEPT))] or words[-1:])


def _prompt(choose: Choose, topics: Topics, kind: str) -> str:
    """The grammar: whatever is chosen goes through `choose`.

    No word is left out of a prompt about an edited subject: the rest might well ask for the edited relation.
    """
    core = choose(topics.cores[kind])
    words = core if kind == OTHER_RELATIONS else [word for word in core if choose(WORD_KEPT)] or core[-1:]
    sentence, case, gap = choose(SENTENCES), choose(CASES), choose(GAPS)
    framed = choose(FRAMES).replace("{}", " ".join(words))
    return f"{case(sentence)}{gap}{framed}" if sentence else framed


def _allowed(topics: Topics, kind: str, prompt: str) -> bool:
    """Whether leaving out words did not bring together the name of an edited subject."""
    return kind == OTHER_RELATIONS or not topics.touched(prompt)
