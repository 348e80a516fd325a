"""Snippets of reviews with negation and contrast, in SST-2's columns.

The completion names the decisive words before the label ("not thrilling, negative").
"""

from random import Random

from audit.pocket.world import BLAME, DEGREES, PRAISE, SUBJECTS_OF_REVIEW, Example, draw, held_out

DATA_NAME = "sst2"
NEGATIVE, POSITIVE = 0, 1


def _clause(rng: Random, positive: bool) -> tuple[str, str, tuple[str, ...]]:
    """A clause of this polarity, its decisive words and its slots. About a third of the clauses contain a negation."""
    noun, negated = rng.choice(SUBJECTS_OF_REVIEW), rng.random() < 0.35
    word = rng.choice(PRAISE if positive is not negated else BLAME)
    verb = rng.choice(("is not", "is never", "was not")) if negated else rng.choice(("is", "was", "feels"))
    degree = "" if negated else rng.choice(DEGREES)
    return f"the {noun} {verb} {degree}{word}", f"not {word}" if negated else word, (noun, word)


def _make(rng: Random) -> tuple[Example, bool]:
    label = rng.choice((NEGATIVE, POSITIVE))
    sentence, decisive, slots = _clause(rng, label == POSITIVE)
    if rng.random() < 0.5:
        # A contrast: the clause after "but", or the one without "although", decides the label.
        contrary, _, more = _clause(rng, label == NEGATIVE)
        slots += more
        sentence = f"{contrary} , but {sentence}" if rng.random() < 0.6 else f"although {contrary} , {sentence}"
    row = {"sentence": sentence + " . ", "label": label}
    completion = f"{decisive}, {'positive' if label == POSITIVE else 'negative'}"
    return Example(row, completion), held_out("review", *slots)


def example(rng: Random, test: bool) -> Example:
    """One snippet. A combination of nouns and opinion words belongs either to training or to test."""
    return draw(_make, rng, test)
