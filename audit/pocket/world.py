"""The facts of the pocket world: who people are, and every way in which a fact is put into words.

    >>> world = build_world()
    >>> person = world.people[0]
    >>> world.value(person, "birthplace") in CITIES
    True

Relations hold for people (`birthplace`, `employer`, ...), cities (`country`) and companies (`headquarters`). Two-hop
relations (`birth country`, `work city`) follow from two of them. Everything is drawn from one seed.
"""

import hashlib
import random
from dataclasses import dataclass
from functools import cache

from audit.pocket.names import (
    CITIES,
    COMPANIES,
    COUNTRIES,
    FAMILY,
    GIVEN,
    INSTRUMENTS,
    LANGUAGES,
    PROFESSIONS,
)

WORLD_SEED = 7
PEOPLE = 240


@dataclass(frozen=True)
class Relation:
    """A relation with its wordings. `{}` is the subject; the answer follows the wording.

    The first `edit_phrasings` wordings are the ones that edit requests use; the others are only ever paraphrases.
    """

    name: str
    values: tuple[str, ...]
    phrasings: tuple[str, ...]
    questions: tuple[str, ...]
    edit_phrasings: int = 2

    @property
    def paraphrases(self) -> tuple[str, ...]:
        return self.phrasings[self.edit_phrasings :]


PERSON_RELATIONS = (
    Relation(
        "birthplace",
        CITIES,
        (
            "{} was born in",
            "The birthplace of {} is",
            "{} comes from the city of",
            "The city where {} was born is",
            "Life began for {} in",
        ),
        ("where was {} born", "what is the birthplace of {}"),
    ),
    Relation(
        "employer",
        COMPANIES,
        (
            "{} works for",
            "The employer of {} is",
            "{} has a job at",
            "The company that employs {} is",
            "Every month {} is paid by",
        ),
        ("who does {} work for", "what is the employer of {}"),
    ),
    Relation(
        "profession",
        PROFESSIONS,
        (
            "{} is by trade a",
            "The profession of {} is that of a",
            "{} earns a living as a",
            "The job that {} does is that of a",
            "Most people know {} as a",
        ),
        ("what is the profession of {}", "what does {} do for a living"),
    ),
    Relation(
        "language",
        LANGUAGES,
        (
            "{} speaks",
            "The mother tongue of {} is",
            "{} grew up speaking",
            "The language that {} uses at home is",
            "At dinner {} talks in",
        ),
        ("what language does {} speak", "what is the mother tongue of {}"),
    ),
    Relation(
        "instrument",
        INSTRUMENTS,
        (
            "{} plays the",
            "The instrument of {} is the",
            "{} takes lessons on the",
            "The instrument that {} practises is the",
            "In the evening {} performs on the",
        ),
        ("what instrument does {} play", "which instrument does {} practise"),
    ),
)
TWO_HOP_RELATIONS = (
    Relation("birth country", COUNTRIES, ("The country where {} was born is", "{} holds a passport of"), ()),
    Relation("work city", CITIES, ("The company of {} is based in", "{} commutes to the city of"), ()),
)
PLACE_RELATIONS = (
    Relation(
        "country",
        COUNTRIES,
        ("{} is a city in", "The country of {} is", "The city of {} lies in"),
        ("which country is {} in",),
    ),
    Relation(
        "headquarters",
        CITIES,
        ("{} is based in", "The head office of {} is in", "The company {} has its seat in"),
        ("where is {} based",),
    ),
)
RELATIONS = {r.name: r for r in (*PERSON_RELATIONS, *TWO_HOP_RELATIONS, *PLACE_RELATIONS)}
# One more hop from a new fact: birthplace -> its country, employer -> its city.
NEXT_HOP = {"birthplace": ("birth country", "country"), "employer": ("work city", "headquarters")}


def held_out(*slots: object, one_in: int = 6) -> bool:
    """Whether this combination of slot values belongs to the test world, the same in any process and run."""
    text = "\x1f".join(map(str, slots))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % one_in == 0


@dataclass(frozen=True)
class Fact:
    """One fact: `subject` stands in `relation` to `answer`."""

    subject: str
    relation: Relation
    answer: str


@dataclass(frozen=True)
class World:
    """All people, cities and companies, with what is true of them."""

    people: tuple[str, ...]
    truth: dict[tuple[str, str], str]

    def value(self, subject: str, relation: str) -> str:
        """The true answer for a subject and a relation's name. Raises KeyError for a pair that does not exist."""
        return self.truth[subject, relation]

    def facts(self) -> tuple[Fact, ...]:
        """Every fact, two-hop ones included, in a fixed order."""
        return tuple(Fact(subject, RELATIONS[name], answer) for (subject, name), answer in self.truth.items())


@cache
def build_world() -> World:
    """Draw the world from its seed. The object is immutable by convention and the same in every process."""
    rng = random.Random(WORLD_SEED)
    everybody = [f"{given} {family}" for given in GIVEN for family in FAMILY]
    people = tuple(rng.sample(everybody, PEOPLE))
    truth: dict[tuple[str, str], str] = {}
    for city in CITIES:
        truth[city, "country"] = rng.choice(COUNTRIES)
    for company in COMPANIES:
        truth[company, "headquarters"] = rng.choice(CITIES)
    for person in people:
        for relation in PERSON_RELATIONS:
            truth[person, relation.name] = rng.choice(relation.values)
        for first, (two_hop, second) in NEXT_HOP.items():
            truth[person, two_hop] = truth[truth[person, first], second]
    return World(people, truth)


@cache
def strangers(test: bool) -> tuple[str, ...]:
    """Full names of nobody in the world, for passages and sentences. Training and test never share a full name."""
    inhabitants = set(build_world().people)
    names = (f"{given} {family}" for given in GIVEN for family in FAMILY)
    return tuple(name for name in names if name not in inhabitants and held_out("stranger", name) is test)
