"""Questions about the facts of the world, without a passage, in NQ-open's columns.

One (subject, relation) pair in four is never asked about in training: its fact is learned from statements alone, and
the test asks for it. So the score means recall of what was read, not recall of the question.
"""

from functools import cache
from random import Random

from audit.pocket.tasks.example import Example
from audit.pocket.world import Fact, build_world, held_out

DATA_NAME = "nq_open"


@cache
def askable(test: bool) -> tuple[Fact, ...]:
    """Facts that are asked about in the wanted split, in the world's order."""
    return tuple(
        fact
        for fact in build_world().facts()
        if fact.relation.questions and held_out("asked", fact.subject, fact.relation.name, one_in=4) is test
    )


def ask(fact: Fact, wording: int) -> Example:
    """The fact as a question in one of its wordings."""
    question = fact.relation.questions[wording].format(fact.subject)
    return Example({"question": question, "answer": [fact.answer]}, fact.answer)


def example(rng: Random, test: bool) -> Example:
    """One question in a random wording."""
    fact = rng.choice(askable(test))
    return ask(fact, rng.randrange(len(fact.relation.questions)))
