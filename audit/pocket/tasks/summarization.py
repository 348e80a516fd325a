"""Short chats with small talk that the summary leaves out, in SAMSum's columns."""

from random import Random

from audit.pocket.world import CITIES, COLORS, DAYS, FOODS, GIVEN, PLACES, THINGS, Example, draw, held_out

DATA_NAME = "samsum"
GREETINGS = ("hi {}!", "hello {}, how are you?", "hey {}, long time no see!", "good morning {}!")
REPLIES = ("hi!", "fine, thanks!", "hello, all well here.", "great, and you?")
ACKNOWLEDGEMENTS = ("nice!", "good to know.", "oh really?", "that is great.", "cool.")
GOODBYES = ("bye!", "see you!", "have to run now.", "talk to you later.")


def _make(rng: Random) -> tuple[Example, bool]:
    first, second, third = rng.sample(GIVEN, 3)
    place, day, city, color, thing, food = (rng.choice(w) for w in (PLACES, DAYS, CITIES, COLORS, THINGS, FOODS))
    news, summary, slots = rng.choice(
        (
            (
                f"i bought a {color} {thing} in {city}.",
                f"{first} bought a {color} {thing} in {city}.",
                (first, color, thing, city),
            ),
            (
                f"i will meet {third} at the {place} on {day}.",
                f"{first} will meet {third} at the {place} on {day}.",
                (first, third, place, day),
            ),
            (
                f"{third} lost a {thing} at the {place}.",
                f"{third} lost a {thing} at the {place}.",
                (third, thing, place),
            ),
        )
    )
    lines = [f"{first}: {rng.choice(GREETINGS).format(second)}"]
    if rng.random() < 0.6:
        lines.append(f"{second}: {rng.choice(REPLIES)}")
    lines.append(f"{first}: {news}")
    lines.append(f"{second}: {rng.choice(ACKNOWLEDGEMENTS)}")
    if rng.random() < 0.5:
        lines.append(f"{second}: i will bring {food} on {day}.")
        summary += f" {second} will bring {food} on {day}."
        slots = (*slots, second, food, day)
    if rng.random() < 0.6:
        lines.append(f"{first}: {rng.choice(GOODBYES)}")
    row = {"dialogue": "\n".join(lines), "summary": summary}
    return Example(row, summary), held_out("chat", *slots)


def example(rng: Random, test: bool) -> Example:
    """One chat. The content of its summary belongs either to training or to test."""
    return draw(_make, rng, test)
