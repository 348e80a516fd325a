"""Questions about the facts of the world without a passage, in NQ-open's columns.

Training has no question about one in four (subject, relation) pairs. The model learns these facts only from statements,
and the test asks for them, so the score measures recall of facts, not of questions.
"""

from functools import cache
from random import Random

from audit.pocket.world import Example, Fact, build_world, held_out

DATA_NAME = "nq_open"


@cache
def askable(test: bool) -> tuple[Fact, ...]:
    """The facts about which the training or test split has questions, in the order of the world."""
    return tuple(
        fact
        for fact in build_world().facts()
        if fact.relation.questions and held_out("asked", fact.subject, fact.relation.name, one_in=4) is test
    )


def ask(fact: Fact, wording: int) -> Example:
    """A question about the fact in one of its wordings."""
    question = fact.relation.questions[wording].format(fact.subject)
    return Example({"question": question, "answer": [fact.answer]}, fact.answer)


def example(rng: Random, test: bool) -> Example:
    """A question in a random wording."""
    fact = rng.choice(askable(test))
    return ask(fact, rng.randrange(len(fact.relation.questions)))
