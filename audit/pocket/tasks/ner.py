"""Sentences with names of people, organizations, places and other things, in CoNLL-2003's columns (IOB2)."""

from random import Random

from audit.pocket.world import (
    CITIES,
    COMPANIES,
    COUNTRIES,
    DAYS,
    EVENTS,
    FOODS,
    LANGUAGES,
    THINGS,
    Example,
    draw,
    held_out,
    strangers,
)

DATA_NAME = "conll2003"
TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
WORDS = {"PER": "person", "ORG": "organization", "LOC": "location", "MISC": "misc"}
# PER, ORG, LOC and MISC are slots for entities; DAY, FOOD and THING are slots for plain words.
TEMPLATES = (
    "PER of ORG arrived in LOC on DAY .",
    "ORG opens an office in LOC .",
    "PER won the MISC in LOC .",
    "The MISC was held in LOC , said PER .",
    "ORG and ORG signed a deal , PER said .",
    "On DAY PER met PER in LOC .",
    "A MISC team visited LOC and LOC .",
    "PER left ORG last DAY .",
    "The MISC is sponsored by ORG .",
    "Prices of FOOD rose again on DAY .",
    "In LOC a MISC THING was sold to PER .",
)


def _entity(rng: Random, kind: str, test: bool) -> str:
    """The text of an entity of type `kind`. Training and test share no full names and no pairs of city and event."""
    if kind == "PER":
        return rng.choice(strangers(test))
    if kind == "ORG":
        return rng.choice(COMPANIES) + rng.choice(("", "", " Group", " Bank"))
    if kind == "LOC":
        return rng.choice(CITIES + COUNTRIES)
    if rng.random() < 0.5:
        return rng.choice(LANGUAGES)
    while True:
        city, event = rng.choice(CITIES), rng.choice(EVENTS)
        if held_out("event", city, event) is test:
            return f"{city} {event}"


def _make(rng: Random, test: bool) -> tuple[Example, bool]:
    tokens: list[str] = []
    tags: list[int] = []
    found: list[tuple[str, str]] = []
    for word in rng.choice(TEMPLATES).split():
        if word in WORDS:
            surface = _entity(rng, word, test)
            found.append((WORDS[word], surface))
            for place, part in enumerate(surface.split()):
                tokens.append(part)
                tags.append(TAGS.index(("I-" if place else "B-") + word))
        else:
            plain = {"DAY": DAYS, "FOOD": FOODS, "THING": THINGS}.get(word)
            tokens.append(rng.choice(plain) if plain else word)
            tags.append(0)
    completion = "; ".join(f"{kind}: {surface}" for kind, surface in found) or "none"
    return Example({"tokens": tokens, "ner_tags": tags}, completion), held_out("sentence", *tokens)


def example(rng: Random, test: bool) -> Example:
    """One sentence. A full name, a pair of city and event or a sentence belongs either to training or to test."""
    return draw(lambda generator: _make(generator, test), rng, test)
