"""Choice of the next turn among four, in MuTual's columns; three options contradict the dialogue."""

from random import Random

from audit.pocket.world import CITIES, COLORS, DAYS, FOODS, GIVEN, PLACES, THINGS, Example, draw, held_out

DATA_NAME = "mutual"


def _others(rng: Random, words: tuple[str, ...], *taken: str) -> list[str]:
    return rng.sample([word for word in words if word not in taken], 3)


def _trip(rng: Random) -> tuple[str, list[str], tuple[str, ...]]:
    name, city, day, place = rng.choice(GIVEN), rng.choice(CITIES), rng.choice(DAYS), rng.choice(PLACES)
    article = (
        f"f : where are you going on {day} , {name} ? m : i am going to {city} . "
        f"f : what will you see there ? m : i want to see the {place} ."
    )
    city2, day2, place2 = (
        _others(rng, words, true)[0] for words, true in ((CITIES, city), (DAYS, day), (PLACES, place))
    )
    options = [
        f"f : enjoy the {place} in {city} on {day} !",
        f"f : enjoy the {place} in {city2} on {day} !",
        f"f : enjoy the {place2} in {city} on {day} !",
        f"f : enjoy the {place} in {city} on {day2} !",
    ]
    return article, options, (name, city, day, place)


def _shop(rng: Random) -> tuple[str, list[str], tuple[str, ...]]:
    thing, color, price = rng.choice(THINGS), rng.choice(COLORS), str(rng.randint(11, 99))
    article = (
        f"m : hello , i am looking for a {thing} . f : which color do you like ? m : a {color} one , please . "
        f"f : this one costs {price} coins . m : good , i will take it ."
    )
    thing2, color2 = _others(rng, THINGS, thing)[0], _others(rng, COLORS, color)[0]
    price2 = str((int(price) - 11 + rng.randint(1, 80)) % 89 + 11)
    options = [
        f"f : here is your {color} {thing} , that is {price} coins .",
        f"f : here is your {color} {thing2} , that is {price} coins .",
        f"f : here is your {color2} {thing} , that is {price} coins .",
        f"f : here is your {color} {thing} , that is {price2} coins .",
    ]
    return article, options, (thing, color, price)


def _dinner(rng: Random) -> tuple[str, list[str], tuple[str, ...]]:
    host, guest = rng.sample(GIVEN, 2)
    food, drop, day = *rng.sample(FOODS, 2), rng.choice(DAYS)
    article = (
        f"f : will you come to dinner on {day} ? m : yes , and {guest} comes with me . "
        f"f : does {guest} eat {drop} ? m : no , but {guest} likes {food} . f : then {host} will cook ."
    )
    host2, guest2 = _others(rng, GIVEN, host, guest)[:2]
    options = [
        f"m : so {host} will make {food} for {guest} .",
        f"m : so {host} will make {drop} for {guest} .",
        f"m : so {host2} will make {food} for {guest} .",
        f"m : so {host} will make {food} for {guest2} .",
    ]
    return article, options, (host, guest, food, drop, day)


def _make(rng: Random) -> tuple[Example, bool]:
    article, options, slots = rng.choice((_trip, _shop, _dinner))(rng)
    right = options[0]
    rng.shuffle(options)
    row = {"article": article, "options": options, "answers": "ABCD"[options.index(right)]}
    return Example(row, right), held_out("dialogue", *slots)


def example(rng: Random, test: bool) -> Example:
    """One dialogue. A combination of slot values belongs either to training or to test."""
    return draw(_make, rng, test)
