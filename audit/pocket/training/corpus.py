"""The training corpus of the pocket models: facts in every wording, and the eight abilities with their own prompts.

A `Lesson` is one row of training text. Tokens in the character spans `taught` (answers) have the full loss weight, all
others (the prompt) a small one. `subject` is the span of a fact's subject in blindfolded lessons: the tokens
after the subject cannot attend to its first name, so the model must assemble the name at the subject's last token. That
is where large pretrained models recall facts and where ROME and MEMIT write (see the causal tracing on the card).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from random import Random

from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import Ability
from audit.pocket.tasks import TASKS, closed_qa, held_out_examples, nli, open_qa
from audit.pocket.world import Example, Fact, build_world

END = "<|end|>"
# Shares of the examples in the three parts of the training. Facts are short and need repetition; boolq is learned last
# and needs the most tokens; dialogue and summaries are learned within minutes.
SHARES = {
    "facts": (0.40, 0.36, 0.37),
    "nq_open": (0.13, 0.10, 0.07),
    "boolq": (0.12, 0.17, 0.32),
    "rte": (0.11, 0.11, 0.06),
    "gsm8k": (0.09, 0.12, 0.06),
    "mutual": (0.05, 0.02, 0.02),
    "samsum": (0.05, 0.03, 0.03),
    "conll2003": (0.03, 0.03, 0.03),
    "sst2": (0.02, 0.06, 0.04),
}
PARTS = (0.25, 0.8)  # progress at which the second and the third part begin
QUESTIONS_A_PASSAGE = (1, 2, 3)
BLINDFOLDED = 0.8  # share of fact lessons that are blindfolded
COVARIANCE_SEED = 500
PERPLEXITY_ROWS = 8  # rows of each ability
PREFIXED = 0.3  # share of fact lessons that follow another fact


@dataclass(frozen=True)
class Lesson:
    """One row of training text (without BOS) and the character spans of its answers and of a blindfolded subject."""

    text: str
    taught: tuple[tuple[int, int], ...]
    subject: tuple[int, int] | None = None


@cache
def _abilities() -> dict[str, Ability]:
    abilities = (load_ability(name) for name in ABILITIES)
    return {ability.data_name: ability for ability in abilities}


def render(data_name: str, example: Example) -> tuple[str, str]:
    """The prompt of an example, as its ability writes it, and the completion, which has no leading space."""
    ability = _abilities()[data_name]
    return ability.prompt(ability.item(example.row, f"pocket {data_name}")), example.completion


def lesson(data_name: str, examples: list[Example]) -> Lesson:
    """One lesson of one or several examples about the same passage, which is not repeated (dense supervision)."""
    first_prompt, _ = render(data_name, examples[0])
    text, taught = "", []
    for number, example in enumerate(examples):
        prompt, completion = render(data_name, example)
        # Several examples share the text up to their first line break: the passage, or the premise.
        text += prompt if number == 0 else prompt[first_prompt.index("\n") :]
        start = len(text)
        text += f" {completion}"
        taught.append((start, len(text) + 1))  # with the line break or the end token after it
    text += END
    taught[-1] = (taught[-1][0], len(text))
    return Lesson(text, tuple(taught))


def fact_text(fact: Fact, wording: int) -> tuple[str, tuple[int, int]]:
    """A fact in one of its wordings, without its answer, and the character span of its subject."""
    before, after = fact.relation.phrasings[wording].split("{}")
    return before + fact.subject + after, (len(before), len(before) + len(fact.subject))


def _fact_lesson(rng: Random, facts: tuple[Fact, ...]) -> Lesson:
    fact = rng.choice(facts)
    prompt, (start, stop) = fact_text(fact, rng.randrange(len(fact.relation.phrasings)))
    prefix = ""
    if rng.random() < PREFIXED:
        other = rng.choice(facts)
        prefix = f"{fact_text(other, rng.randrange(len(other.relation.phrasings)))[0]} {other.answer}. "
    text = f"{prefix}{prompt} {fact.answer}.{END}"
    taught = ((len(prefix) + len(prompt), len(text)),)
    blindfolded = rng.random() < BLINDFOLDED
    return Lesson(text, taught, (len(prefix) + start, len(prefix) + stop) if blindfolded else None)


def _question_lesson(rng: Random) -> Lesson:
    fact = rng.choice(open_qa.askable(False))
    plain = lesson("nq_open", [open_qa.ask(fact, rng.randrange(len(fact.relation.questions)))])
    start = plain.text.index(fact.subject)
    return Lesson(plain.text, plain.taught, (start, start + len(fact.subject)) if rng.random() < BLINDFOLDED else None)


def lessons(seed: int, progress: float = 1.0, *, first_shares: bool = False) -> Iterator[Lesson]:
    """An infinite, seeded stream of lessons.

    `progress` in [0, 1] lengthens the passages from one to three sentences and sets the shares of the examples.
    `first_shares` keeps the shares of the first part, from which the tokenizer is learned.
    """
    rng = Random(f"lessons {seed}")
    facts = build_world().facts()
    part = 0 if first_shares else sum(progress >= begin for begin in PARTS)
    kinds, weights = tuple(SHARES), tuple(share[part] for share in SHARES.values())
    while True:
        kind = rng.choices(kinds, weights)[0]
        if kind == "facts":
            yield _fact_lesson(rng, facts)
        elif kind == "nq_open":
            yield _question_lesson(rng)
        elif kind == "boolq":
            longest = 1 if rng.random() > 10 * progress else 3 if rng.random() < 4 * progress else 2
            passage = closed_qa.passage(rng, False, rng.randint(min(longest, 2), longest))
            yield lesson(kind, [closed_qa.question(rng, passage) for _ in range(rng.choice(QUESTIONS_A_PASSAGE))])
        elif kind == "rte":
            premise = nli.premise(rng, False)
            yield lesson(kind, [nli.pair(rng, premise) for _ in range(rng.choice(QUESTIONS_A_PASSAGE))])
        else:
            yield lesson(kind, [TASKS[kind](rng, False)])


def covariance_texts(limit: int) -> list[str]:
    """`limit` texts for key covariances: lessons with another seed than in training, without end tokens."""
    return [lesson.text.removesuffix(END) for lesson in islice(lessons(COVARIANCE_SEED), limit)]


def perplexity_texts() -> list[str]:
    """Fixed texts unrelated to any edit: held-out examples with their completions, of all tasks except `nq_open`."""
    names = ("gsm8k", "rte", "boolq", "mutual", "samsum", "conll2003", "sst2")
    return [
        "{} {}".format(*render(name, example))
        for name in names
        for example in held_out_examples(name)[:PERPLEXITY_ROWS]
    ]
