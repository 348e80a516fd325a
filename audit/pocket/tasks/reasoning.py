"""Word problems of two steps, in GSM8K's columns: one line for each step, then `#### N`."""

from collections.abc import Callable
from random import Random

from audit.pocket.world import CONTAINERS, FRUITS, GIVEN, GIVEN_FEMALE, GOODS, PLACES, Example, draw, held_out

DATA_NAME = "gsm8k"


def _more_then_less(rng: Random, a: int, b: int, c: int) -> tuple[str, list[str], int]:
    name, friend, thing = *rng.sample(GIVEN, 2), rng.choice(FRUITS + GOODS)
    pronoun = "She" if name in GIVEN_FEMALE else "He"
    get = rng.choice(("buys", "finds", "gets"))
    text = (
        f"{name} has {a} {thing}. {pronoun} {get} {b} more and gives {c} to {friend}. "
        f"How many {thing} does {name} have now?"
    )
    return text, [f"{a} + {b} = {a + b}", f"{a + b} - {c} = {a + b - c}"], a + b - c


def _less_then_more(rng: Random, a: int, b: int, c: int) -> tuple[str, list[str], int]:
    name, thing = rng.choice(GIVEN), rng.choice(FRUITS + GOODS)
    lose = rng.choice(("sells", "loses", "uses"))
    text = f"{name} had {a} {thing}, {lose} {b} and then gets {c} new {thing}. How many {thing} are there in the end?"
    return text, [f"{a} - {b} = {a - b}", f"{a - b} + {c} = {a - b + c}"], a - b + c


def _three_people(rng: Random, a: int, b: int, c: int) -> tuple[str, list[str], int]:
    first, second, third = rng.sample(GIVEN, 3)
    thing = rng.choice(FRUITS + GOODS)
    text = (
        f"{first} has {a} {thing}. {second} has {b} {thing} and {third} has {c}. "
        f"How many {thing} do they have together?"
    )
    return text, [f"{a} + {b} = {a + b}", f"{a + b} + {c} = {a + b + c}"], a + b + c


def _containers(rng: Random, a: int, b: int, c: int) -> tuple[str, list[str], int]:
    name, thing, box = rng.choice(GIVEN), rng.choice(FRUITS + GOODS), rng.choice(CONTAINERS)
    text = f"{name} has {b} {box} with {c} {thing} each and {a} loose {thing}. How many {thing} is that in all?"
    return text, [f"{b} * {c} = {b * c}", f"{b * c} + {a} = {b * c + a}"], b * c + a


def _leaving(rng: Random, a: int, b: int, c: int) -> tuple[str, list[str], int]:
    place = rng.choice(PLACES)
    text = (
        f"There are {a} people at the {place}. {b} leave and later {c} more leave. "
        f"How many people are left at the {place}?"
    )
    return text, [f"{a} - {b} = {a - b}", f"{a - b} - {c} = {a - b - c}"], a - b - c


TEMPLATES: tuple[Callable[[Random, int, int, int], tuple[str, list[str], int]], ...] = (
    _more_then_less,
    _less_then_more,
    _three_people,
    _containers,
    _leaving,
)


def _make(rng: Random) -> tuple[Example, bool]:
    template = rng.choice(TEMPLATES)
    first = rng.randint(2, 9) if template is _containers else rng.randint(18, 40)
    numbers = (first, rng.randint(2, 9), rng.randint(2, 9))
    question, steps, result = template(rng, *numbers)
    answer = "\n".join((*steps, f"#### {result}"))
    return Example({"question": question, "answer": answer}, answer), held_out("numbers", *numbers)


def example(rng: Random, test: bool) -> Example:
    """One problem. A triple of numbers belongs either to training or to test, in all templates."""
    return draw(_make, rng, test)
