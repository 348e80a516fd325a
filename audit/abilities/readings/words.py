"""Reading free text: the first word of a small set, and the normalisation of question-answering scores."""

import re
import string
from collections import Counter
from collections.abc import Sequence

from audit.abilities.contract import Answer, Item, Score

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def first_word(text: str, words: Sequence[str]) -> Answer:
    """The first standalone one of `words`, in any case; a model may quote its evidence before it.

    An answer that opens with a word is therefore read as that word, and "know" or "not" never as "no".
    Without any of them the answer is unparseable.
    """
    pattern = r"(?<!\w)(" + "|".join(map(re.escape, words)) + r")(?!\w)"
    found = re.search(pattern, text, re.IGNORECASE)
    if found is None:
        return Answer(text, None, False)
    spelled = {word.casefold(): word for word in words}
    return Answer(text, spelled[found.group(1).casefold()], True)


def is_gold(item: Item, answer: Answer) -> Score:
    """1 when the parsed answer is one of the item's golds; an unparseable answer is wrong."""
    return Score(float(answer.parseable and answer.value in item.gold))


def majority(items: Sequence[Item]) -> float:
    """The share of the most common first gold: what always giving one answer scores. 0 without items."""
    if not items:
        return 0.0
    return max(Counter(item.gold[0] for item in items).values()) / len(items)


def squad_normalized(text: str) -> str:
    """SQuAD's order (Rajpurkar et al. 2016, evaluate-v1.1): lower case, punctuation, articles, white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(text: str, golds: Sequence[str]) -> float:
    """1 when the normalised text equals any normalised gold. An empty text matches nothing."""
    said = squad_normalized(text)
    return float(bool(said) and any(said == squad_normalized(gold) for gold in golds))


def token_f1(text: str, golds: Sequence[str]) -> float:
    """The best token F1 over all golds (SQuAD v1.1: no common token is 0, two empty texts included)."""
    return max((_token_f1(squad_normalized(text).split(), squad_normalized(gold).split()) for gold in golds), default=0)


def _token_f1(said: list[str], gold: list[str]) -> float:
    common = sum((Counter(said) & Counter(gold)).values())
    return 2 * common / (len(said) + len(gold)) if common else 0.0
