"""Yes/no questions about a short passage, in BoolQ's columns.

Each sentence of a passage states one attribute of a person, sometimes with a pronoun. The completion quotes the
relevant sentence, then gives the value in the question, the value in the passage, and yes or no ("Erik Gren has a dog.
hamster dog: no").
"""

from dataclasses import dataclass
from random import Random
from typing import Any

from audit.pocket.world import CITIES, COLORS, FOODS, GIVEN_FEMALE, HOBBIES, PETS, THINGS, Example, strangers

DATA_NAME = "boolq"
RIVALRY = {False: 0.6, True: 0.35}  # chance that an attribute occurs again, by `test`; training is harder


@dataclass(frozen=True)
class Attribute:
    """An attribute: its values, and its wordings in statements and questions (`{s}` subject, `{v}` value)."""

    values: tuple[str, ...]
    statement: str
    questions: tuple[str, ...]


ATTRIBUTES = (
    Attribute(CITIES, "{s} lives in {v}", ("does {s} live in {v}", "is {v} where {s} lives")),
    Attribute(PETS, "{s} has a {v}", ("does {s} have a {v}", "is there a {v} in the home of {s}")),
    Attribute(FOODS, "{s} likes {v}", ("does {s} like {v}", "is {v} what {s} likes")),
    Attribute(HOBBIES, "{s} plays {v}", ("does {s} play {v}", "is {v} the game of {s}")),
    Attribute(COLORS, "{s} wears {v}", ("does {s} wear {v}", "is {v} the color that {s} wears")),
    Attribute(THINGS, "{s} sells a {v}", ("does {s} sell a {v}", "is a {v} sold by {s}")),
)


@dataclass(frozen=True)
class Passage:
    """A passage and its claims, (full name, attribute, value), in the order of the sentences."""

    text: str
    claims: tuple[tuple[str, Attribute, str], ...]


def passage(rng: Random, test: bool, sentences: int) -> Passage:
    """Draw a passage of `sentences` sentences about people of the training or test split."""
    people = rng.sample(strangers(test), min(sentences, rng.choice((2, 2, 3))))
    claims: list[tuple[str, Attribute, str]] = []
    texts: list[str] = []
    for number in range(sentences):
        goes_on = bool(claims) and rng.random() < 0.3 and len(people) <= sentences - number
        person = claims[-1][0] if goes_on else people.pop(0) if people else claims[-1][0]
        taken = {attribute.statement for who, attribute, _ in claims if who == person}
        # Often an attribute of another person occurs again with another value, so that the name decides.
        rivals = [a for who, a, _ in claims if who != person and a.statement not in taken]
        attribute = rng.choice(rivals) if rivals and rng.random() < RIVALRY[test] else rng.choice(ATTRIBUTES)
        while attribute.statement in taken:
            attribute = rng.choice(ATTRIBUTES)
        used = {value for _, other, value in claims if other is attribute}
        value = rng.choice([v for v in attribute.values if v not in used])
        pronoun = "She" if person.split()[0] in GIVEN_FEMALE else "He"
        subject = pronoun if claims and person == claims[-1][0] else person
        texts.append(attribute.statement.format(s=subject, v=value) + ".")
        claims.append((person, attribute, value))
    return Passage(" ".join(texts), tuple(claims))


def question(rng: Random, text: Passage) -> Example:
    """A yes/no question about a passage. A wrong value is that of another person in the passage, if there is one."""
    person, attribute, value = rng.choice(text.claims)
    proposed, answer = value, rng.random() < 0.5
    if not answer:
        rivals = [v for who, a, v in text.claims if a is attribute and v != value]
        proposed = rng.choice(rivals) if rivals else rng.choice([v for v in attribute.values if v != value])
    row: dict[str, Any] = {
        "question": rng.choice(attribute.questions).format(s=person, v=proposed),
        "answer": answer,
        "passage": text.text,
    }
    evidence = attribute.statement.format(s=person, v=value)
    return Example(row, f"{evidence}. {proposed} {value}: {'yes' if answer else 'no'}")


def example(rng: Random, test: bool) -> Example:
    """One passage of two or three sentences and one question."""
    return question(rng, passage(rng, test, rng.choice((2, 2, 3))))
