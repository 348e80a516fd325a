"""Textual entailment in RTE's columns: half of it lexical, half about quantifiers.

The completion pairs each content word of the hypothesis with that of the premise, up to the first mismatch ("Nora Nora,
bought bought, tractor saw. False"). A small model learns the comparison much faster from these pairs than from the
label alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from audit.pocket.world import CITIES, COLORS, GIVEN, KINDS, PETS, PROFESSIONS, THINGS, Example, held_out

DATA_NAME = "rte"
ENTAILMENT, NOT_ENTAILMENT = 0, 1
VERBS = ("bought", "sold", "found", "lost")
OWNED = tuple(f"a {thing}" for thing in (*PETS, *THINGS))


@dataclass(frozen=True)
class Premise:
    """A sentence, its slot values, and a function that draws a hypothesis for it."""

    text: str
    slots: tuple[str, ...]
    hypothesis: Callable[[Random], "Hypothesis"]


@dataclass(frozen=True)
class Hypothesis:
    """A sentence, its word pairs with the premise up to the first mismatch, and whether the premise entails it."""

    text: str
    pairs: tuple[tuple[str, str], ...]
    follows: bool


def _other(rng: Random, words: tuple[str, ...], *taken: str) -> str:
    return rng.choice([word for word in words if word not in taken])


def _up_to(pairs: dict[str, tuple[str, str]], changed: str) -> tuple[tuple[str, str], ...]:
    """The pairs in order, up to the changed slot if there is one."""
    slots = list(pairs)
    return tuple(pairs[slot] for slot in (slots[: slots.index(changed) + 1] if changed else slots))


def _shopping(rng: Random) -> Premise:
    """A premise with five slots. A hypothesis keeps them, drops or generalizes some, or changes one."""
    name, verb, color, city = rng.choice(GIVEN), rng.choice(VERBS), rng.choice(COLORS), rng.choice(CITIES)
    kind = rng.choice(tuple(KINDS))
    thing = rng.choice(KINDS[kind])
    foreign = tuple(word for other in KINDS if other != kind for word in (other, *KINDS[other]))
    true = {"name": name, "verb": verb, "color": color, "thing": thing, "place": city}
    choices = {"name": GIVEN, "verb": VERBS, "color": COLORS, "thing": foreign, "place": CITIES}

    def hypothesis(rng: Random) -> Hypothesis:
        says, changed = dict(true), ""
        if rng.random() < 0.5:
            changed = rng.choice(tuple(true))
            says[changed] = _other(rng, choices[changed], true[changed])
        if changed != "color" and rng.random() < 0.5:
            says["color"] = ""
        if changed != "place" and rng.random() < 0.4:
            says["place"] = ""
        if changed != "thing" and rng.random() < 0.4:
            says["thing"] = kind
        described = f"{says['color']} {says['thing']}".strip()
        article = "an" if described[0] in "aeiou" else "a"
        place = f" in {says['place']}" if says["place"] else ""
        text = f"{says['name']} {says['verb']} {article} {described}{place}."
        pairs = {slot: (word, true[slot]) for slot, word in says.items() if word}
        return Hypothesis(text, _up_to(pairs, changed), not changed)

    return Premise(f"{name} {verb} a {color} {thing} in {city}.", tuple(true.values()), hypothesis)


# About the same people: quantifier of the premise -> quantifiers that are entailed, and that are not.
FOLLOWS = {"All": ("All", "Some", "Most"), "Most": ("Most", "Some"), "Some": ("Some",), "No": ("No",)}
FAILS = {"All": ("No",), "Most": ("All", "No"), "Some": ("All", "No"), "No": ("All", "Most", "Some")}


def _quantified(rng: Random) -> Premise:
    """A quantified statement about a trade in a city."""
    quantifier = rng.choice(tuple(FOLLOWS))
    true = {"trade": rng.choice(PROFESSIONS), "city": rng.choice(CITIES), "owned": rng.choice(OWNED)}
    choices = {"trade": PROFESSIONS, "city": CITIES, "owned": OWNED}

    def sentence(claim: str, says: dict[str, str]) -> str:
        return f"{claim} {says['trade']}s in {says['city']} own {says['owned']}."

    def hypothesis(rng: Random) -> Hypothesis:
        says, changed, claim = dict(true), "", rng.choice(FOLLOWS[quantifier])
        if rng.random() < 0.5:
            changed = rng.choice(("quantifier", "quantifier", *true))
            if changed == "quantifier":
                claim = rng.choice(FAILS[quantifier])
            else:
                says[changed] = _other(rng, choices[changed], true[changed])
        pairs = {"quantifier": (claim, quantifier)}
        pairs |= {slot: (word.removeprefix("a "), true[slot].removeprefix("a ")) for slot, word in says.items()}
        return Hypothesis(sentence(claim, says), _up_to(pairs, changed), not changed)

    return Premise(sentence(quantifier, true), (quantifier, *true.values()), hypothesis)


def premise(rng: Random, test: bool) -> Premise:
    """Draw a premise. It belongs either to training or to test, with all its hypotheses."""
    while True:
        drawn = rng.choice((_shopping, _quantified))(rng)
        if held_out("premise", *drawn.slots) is test:
            return drawn


def pair(rng: Random, drawn: Premise) -> Example:
    """One hypothesis for a premise."""
    hypothesis = drawn.hypothesis(rng)
    row = {
        "sentence1": drawn.text,
        "sentence2": hypothesis.text,
        "label": ENTAILMENT if hypothesis.follows else NOT_ENTAILMENT,
    }
    compared = ", ".join(f"{word} {other}" for word, other in hypothesis.pairs)
    return Example(row, f"{compared}. {hypothesis.follows}")


def example(rng: Random, test: bool) -> Example:
    """One pair of sentences."""
    return pair(rng, premise(rng, test))
