"""Textual entailment in RTE's columns: half of it lexical, half about quantifiers.

The taught answer names what differs before its verdict ("red is not blue. False"), as a person would who checks
word by word; a small model learns the comparison from these words far sooner than from the verdict alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from audit.pocket.names import CITIES, COLORS, GIVEN, KINDS, PETS, PROFESSIONS, THINGS
from audit.pocket.tasks.example import Example
from audit.pocket.world import held_out

DATA_NAME = "rte"
ENTAILMENT, NOT_ENTAILMENT = 0, 1
VERBS = ("bought", "sold", "found", "lost")
OWNED = tuple(f"a {thing}" for thing in (*PETS, *THINGS))


@dataclass(frozen=True)
class Premise:
    """A sentence, and a way to draw a hypothesis for it: (hypothesis, "" or what is wrong with it)."""

    text: str
    slots: tuple[str, ...]
    hypothesis: Callable[[Random], tuple[str, str]]


def _other(rng: Random, words: tuple[str, ...], *taken: str) -> str:
    return rng.choice([word for word in words if word not in taken])


def _shopping(rng: Random) -> Premise:
    """A premise with five slots; a hypothesis keeps them, drops or generalises some, or changes one."""
    name, verb, color, city = rng.choice(GIVEN), rng.choice(VERBS), rng.choice(COLORS), rng.choice(CITIES)
    kind = rng.choice(tuple(KINDS))
    thing = rng.choice(KINDS[kind])
    foreign = tuple(word for other in KINDS if other != kind for word in (other, *KINDS[other]))
    true = {"name": name, "verb": verb, "color": color, "thing": thing, "place": city}
    choices = {"name": GIVEN, "verb": VERBS, "color": COLORS, "thing": foreign, "place": CITIES}

    def hypothesis(rng: Random) -> tuple[str, str]:
        says, wrong, changed = dict(true), "", ""
        if rng.random() < 0.5:
            changed = rng.choice(tuple(true))
            says[changed] = _other(rng, choices[changed], true[changed])
            wrong = f"{true[changed]} is not {says[changed]}"
        if changed != "color" and rng.random() < 0.5:
            says["color"] = ""
        if changed != "place" and rng.random() < 0.4:
            says["place"] = ""
        if changed != "thing" and rng.random() < 0.4:
            says["thing"] = kind
        described = f"{says['color']} {says['thing']}".strip()
        article = "an" if described[0] in "aeiou" else "a"
        place = f" in {says['place']}" if says["place"] else ""
        return f"{says['name']} {says['verb']} {article} {described}{place}.", wrong

    return Premise(f"{name} {verb} a {color} {thing} in {city}.", tuple(true.values()), hypothesis)


# What follows from what, about the same people: premise quantifier -> hypotheses that hold, and that do not.
FOLLOWS = {"All": ("All", "Some", "Most"), "Most": ("Most", "Some"), "Some": ("Some",), "No": ("No",)}
FAILS = {"All": ("No",), "Most": ("All", "No"), "Some": ("All", "No"), "No": ("All", "Most", "Some")}


def _quantified(rng: Random) -> Premise:
    """A quantified statement about a trade in a city."""
    quantifier = rng.choice(tuple(FOLLOWS))
    true = {"trade": rng.choice(PROFESSIONS), "city": rng.choice(CITIES), "owned": rng.choice(OWNED)}
    choices = {"trade": PROFESSIONS, "city": CITIES, "owned": OWNED}

    def sentence(claim: str, says: dict[str, str]) -> str:
        return f"{claim} {says['trade']}s in {says['city']} own {says['owned']}."

    def hypothesis(rng: Random) -> tuple[str, str]:
        says, wrong, claim = dict(true), "", rng.choice(FOLLOWS[quantifier])
        if rng.random() < 0.5:
            changed = rng.choice(("quantifier", "quantifier", *true))
            if changed == "quantifier":
                claim = rng.choice(FAILS[quantifier])
                wrong = f"{quantifier} is not {claim}"
            else:
                says[changed] = _other(rng, choices[changed], true[changed])
                wrong = f"{true[changed].removeprefix('a ')} is not {says[changed].removeprefix('a ')}"
        return sentence(claim, says), wrong

    return Premise(sentence(quantifier, true), (quantifier, *true.values()), hypothesis)


def premise(rng: Random, test: bool) -> Premise:
    """Draw a premise; it belongs either to training or to test, with all its hypotheses."""
    while True:
        drawn = rng.choice((_shopping, _quantified))(rng)
        if held_out("premise", *drawn.slots) is test:
            return drawn


def pair(rng: Random, drawn: Premise) -> Example:
    """One hypothesis for a premise."""
    text, wrong = drawn.hypothesis(rng)
    row = {"sentence1": drawn.text, "sentence2": text, "label": NOT_ENTAILMENT if wrong else ENTAILMENT}
    return Example(row, f"{wrong}. False" if wrong else "It follows. True")


def example(rng: Random, test: bool) -> Example:
    """One pair of sentences."""
    return pair(rng, premise(rng, test))
