"""Reading by answers: the first word from a small set, and the normalisation and matching of SQuAD."""

import re
import string
from collections import Counter
from collections.abc import Sequence

from audit.abilities.contract import Answer, Item, Score

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def first_word(text: str, words: Sequence[str]) -> Answer:
    """The first of `words` that occurs in the text as a whole word, ignoring case.

    A model may write its evidence before the word. "know" and "not" are not read as "no". A text without any of the
    words is unparseable.
    """
    pattern = r"(?<!\w)(" + "|".join(map(re.escape, words)) + r")(?!\w)"
    found = re.search(pattern, text, re.IGNORECASE)
    if found is None:
        return Answer(text, None, False)
    spelling = {word.casefold(): word for word in words}
    return Answer(text, spelling[found.group(1).casefold()], True)


def is_gold(item: Item, answer: Answer) -> Score:
    """Score 1 if the parsed answer is one of the item's golds; an unparseable answer is wrong."""
    return Score(float(answer.parseable and answer.value in item.gold))


def majority(items: Sequence[Item]) -> float:
    """The share of the most common first gold: the score of a constant answer. 0 without items."""
    if not items:
        return 0.0
    return max(Counter(item.gold[0] for item in items).values()) / len(items)


def squad_normalized(text: str) -> str:
    """The text normalised as in SQuAD v1.1 (Rajpurkar et al. 2016): lower case, punctuation, articles, white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(text: str, golds: Sequence[str]) -> float:
    """1 if the normalised text equals a normalised gold. An empty text matches no gold."""
    answer = squad_normalized(text)
    return float(bool(answer) and any(answer == squad_normalized(gold) for gold in golds))


def token_f1(text: str, golds: Sequence[str]) -> float:
    """The highest token F1 over all golds, as in SQuAD v1.1: 0 without a common token, also for two empty texts."""
    return max((_token_f1(squad_normalized(text).split(), squad_normalized(gold).split()) for gold in golds), default=0)


def _token_f1(words: list[str], gold: list[str]) -> float:
    common = sum((Counter(words) & Counter(gold)).values())
    return 2 * common / (len(words) + len(gold)) if common else 0.0
