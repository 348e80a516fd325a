"""The pocket world: its words, its facts in all their wordings, and the split into training and test.

    >>> world = build_world()
    >>> person = world.people[0]
    >>> world.value(person, "birthplace") in CITIES
    True

Relations hold for people (`birthplace`, `employer`, ...), cities (`country`) and companies (`headquarters`). Two-hop
relations (`birth country`, `work city`) follow from two of them. Everything is drawn from one seed.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

# Proper names are invented, so that no fact contradicts the real world.
GIVEN_FEMALE = tuple(
    "Mara Lena Tilda Ines Rosa Vera Nora Dina Olga Petra Sanna Hilda Ada Bea Cora Edda Fenna Greta Ilsa Jana "
    "Kaja Livia Mona Nelda Oda".split()
)
GIVEN_MALE = tuple(
    "Oskar Bruno Emil Felix Hugo Ivan Jonas Karl Leo Max Nils Otto Paul Rolf Sven Tomas Ulf Viktor Anton Boris "
    "Casper David Erik Finn Gustav".split()
)
GIVEN = GIVEN_FEMALE + GIVEN_MALE
FAMILY = tuple(
    "Lind Rask Holm Berg Dahl Falk Gren Hask Jarl Krone Lund Moss Norr Palm Quist Rand Stam Thorn Ulven Vale "
    "Wick Yard Zell Abend Brook Cray Drum Elster Frost Gale Hawk Inger Jute Kern Lark Mills North Oaks Penn Ridge "
    "Stone Tarn Under Voss Wolf Ash Birch Clay Dell Ember".split()
)
CITIES = tuple(
    "Velden Kelm Morava Tarsin Ostrel Brimo Calden Dorvik Elbar Fenwick Gorlan Harmo Istra Jelna Korvo Lusten Mirna "
    "Nordal Orvel Pelago Quora Rivno Selka Tolmin Ursa Varno Welgo Xanto Yarvik Zelin".split()
)
COUNTRIES = tuple("Norland Sudonia Estavia Westria Belmark Cordova Drevia Galtia".split())
COMPANIES = tuple(
    "Norvex Altigo Brightec Calvor Denso Ethrix Fluxon Gravia Helion Intara Jetway Kolbri Lumex Mantor Nimbus Orbix "
    "Pyxis Quanta Rotax Solvia Tectra Unifer Vantis Wavelo Xenor Yotta Zentra Acron Bolix Corvia".split()
)
PROFESSIONS = tuple(
    "baker tailor nurse pilot farmer painter lawyer teacher plumber dentist chemist barber judge miner sailor singer "
    "writer waiter gardener butcher".split()
)
LANGUAGES = tuple("Norlandic Sudonian Estavian Westrian Belmarkish Cordovan Drevian Galtian".split())
INSTRUMENTS = tuple("piano violin flute guitar drum harp cello trumpet organ banjo".split())

COLORS = tuple("red blue green black white yellow brown grey".split())
THINGS = tuple("lamp chair bike coat clock mirror carpet kettle bag hat table radio".split())
FRUITS = tuple("apples pears plums lemons cherries melons".split())
GOODS = tuple("coins books stamps pens cards marbles shells buttons".split())
CONTAINERS = tuple("boxes bags baskets crates".split())
PETS = tuple("dog cat parrot rabbit hamster turtle".split())
PLACES = tuple("museum library station market park theatre harbor bakery".split())
DAYS = tuple("monday tuesday wednesday thursday friday saturday sunday".split())
FOODS = tuple("soup cake bread pasta salad fish rice cheese".split())
HOBBIES = tuple("chess tennis hockey sailing skiing".split())
EVENTS = tuple("Cup Prize Festival Marathon".split())

# Kind of thing -> things of that kind, for lexical entailment.
KINDS = {
    "animal": ("dog", "cat", "rabbit", "turtle"),
    "vehicle": ("bike", "truck", "van", "tractor"),
    "tool": ("hammer", "saw", "drill", "spade"),
    "garment": ("coat", "hat", "scarf", "shirt"),
}

PRAISE = tuple(
    "wonderful brilliant charming funny moving clever lovely gripping delightful superb fresh warm witty graceful "
    "honest thrilling".split()
)
BLAME = tuple(
    "dull boring clumsy awful tedious weak messy silly bland terrible stale cold lazy hollow painful ugly".split()
)
SUBJECTS_OF_REVIEW = tuple(
    "film story plot acting music script cast ending dialogue camera pace humor hero villain opening finale".split()
)
DEGREES = ("", "very ", "really ", "quite ", "rather ", "simply ")

WORLD_SEED = 7
PEOPLE = 240


@dataclass(frozen=True)
class Relation:
    """A relation: its possible answers (`values`) and its wordings, in which `{}` is the subject.

    The answer follows one of the `phrasings`; `questions` are wordings for open QA. Edit requests use the first
    `edit_phrasings` phrasings; the others are paraphrases only.
    """

    name: str
    values: tuple[str, ...]
    phrasings: tuple[str, ...]
    questions: tuple[str, ...]
    edit_phrasings: int = 2

    @property
    def paraphrases(self) -> tuple[str, ...]:
        """The phrasings that no edit request uses as its prompt."""
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
# Relation of a person -> the two-hop relation through it, and the relation of its answer.
NEXT_HOP = {"birthplace": ("birth country", "country"), "employer": ("work city", "headquarters")}


def held_out(*slots: object, one_in: int = 6) -> bool:
    """Whether a combination of slot values is in the test split, as about one in `one_in` is; same in every process."""
    text = "\x1f".join(map(str, slots))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % one_in == 0


@dataclass(frozen=True)
class Fact:
    """One fact: the `answer` to `relation` for `subject`."""

    subject: str
    relation: Relation
    answer: str


@dataclass(frozen=True)
class World:
    """All people, and the true answer for every (subject, relation) pair."""

    people: tuple[str, ...]
    truth: dict[tuple[str, str], str]

    def value(self, subject: str, relation: str) -> str:
        """The true answer for a subject and the name of a relation. Raises `KeyError` if there is none."""
        return self.truth[subject, relation]

    def facts(self) -> tuple[Fact, ...]:
        """All facts in a fixed order, including two-hop facts."""
        return tuple(Fact(subject, RELATIONS[name], answer) for (subject, name), answer in self.truth.items())


@cache
def build_world() -> World:
    """Draw the world from its seed. The result is the same in every process. It is cached and must not be modified."""
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
    """Full names that are not in the world, for passages and sentences. Training and test share none of them."""
    inhabitants = set(build_world().people)
    names = (f"{given} {family}" for given in GIVEN for family in FAMILY)
    return tuple(name for name in names if name not in inhabitants and held_out("stranger", name) is test)


@dataclass(frozen=True)
class Example:
    """A generated example: a row in the columns of the real data set, and the answer that a pocket model learns.

    `completion` follows the ability's prompt; it may state its evidence before the answer.
    """

    row: dict[str, Any]
    completion: str


def draw(make: Callable[[random.Random], tuple[Example, bool]], rng: random.Random, test: bool) -> Example:
    """Draw until an example belongs to the split; `make` returns an example and whether it is in the test split."""
    while True:
        example, belongs_to_test = make(rng)
        if belongs_to_test is test:
            return example
