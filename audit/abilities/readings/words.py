"""Reading by answers: the first word from a small set, and the normalization and matching of SQuAD."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from audit.abilities.contract import Answer, Item, Score

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


_SAME = {"yes": ("yeah", "yep", "yup"), "no": ("nope", "nah")}
_CLAUSE = re.compile(
    r"[.!;:,\n]|\b(?:(?<!anything )but|and|because|since|so|which|while|although|though|yet|however)\b"
)
_NEGATION = (
    r"(?:not|cannot|\w*n't|never|hardly|neither|nor|nothing|none|nobody|far from|anything but|"
    r"(?:wrong|incorrect|mistaken) to|(?<!no )(?<!without )(?<!without a )doubt(?:s|ed|ful)?)"
)
_NEGATED = re.compile(rf"\b{_NEGATION}\b(?! (?:only|just|merely)\b)(?:\W+\w+){{0,6}}\W*$|\bno\W+$", re.IGNORECASE)
# "no" before or after these words is not an answer: "no doubt about it", "there is no evidence".
_NO_OF = re.compile(
    r" (?:doubt|problem|question|way|evidence|proof|sign|reason|idea|such|information|mention|answer|need|one knows)\b",
    re.IGNORECASE,
)
_NO_THING = re.compile(r"\b(?:there(?:'s| is| are| was| were)|has|have|had|with|contains?)\W+$", re.IGNORECASE)
_OPEN = re.compile(r"\b(?:whether|unsure|unclear|(?:not|n't) (?:know|sure|certain|clear|tell|say))\b", re.IGNORECASE)
_MARKER = re.compile(r"\b(?:answer|label|sentiment|verdict|conclusion)\b(?:\s+is\b|\W*:)", re.IGNORECASE)


def label_in(text: str, labels: tuple[str, str]) -> Answer:
    """Parse the label in an answer: the first after "Answer:" or "the answer is", else the first in the text.

    Text before the label is allowed; Markdown and case do not matter. Labels inside words, in questions, in "yes or no"
    and in "I don't know whether ..." do not count, and a negated label ("not true", "far from positive") is the other
    one. An answer with both labels side by side ("yes and no", "neither positive nor negative"), or with none, is
    unparseable.
    """
    plain = re.sub(r"(?<![^\W_])_+|_+(?![^\W_])|[*`#>]+", " ", text.replace("\u2019", "'"))
    places = [plain[marker.end() :] for marker in _MARKER.finditer(plain)]
    label = next((label for place in (*places, plain) if (label := _first_label(place, labels))), None)
    return Answer(text, label, label is not None)


def _first_label(text: str, labels: tuple[str, str]) -> str | None:
    spelling = {word: label for label in labels for word in (label.casefold(), *_SAME.get(label, ()))}
    either = "(" + "|".join(map(re.escape, spelling)) + ")"
    text = re.sub(r"[^.!?\n]*\?", " ", text)  # questions
    pair = rf"\b{either}(?:\s*(?:/|_|\bor\b)\s*){either}\b"  # the options, as the prompt names them
    if re.search(rf"\b{either}\W+(?:and|nor)\W+{either}\b", text, re.IGNORECASE):
        return None
    text = re.sub(pair, " ", text, flags=re.IGNORECASE)
    compared = re.search(rf"\b(less|more|rather)\s+{either}\s+than\s+{either}\b", text, re.IGNORECASE)
    if compared:
        return spelling[compared[3 if compared[1].casefold() == "less" else 2].casefold()]
    if not re.sub(rf"\b(?:{either}|and|but|or|then|maybe|also)\b|\W", "", text, flags=re.IGNORECASE):
        said = {spelling[word.casefold()] for word in re.findall(rf"\b{either}\b", text, re.IGNORECASE)}
        return said.pop() if len(said) == 1 else None  # "yes, but no"
    for found in re.finditer(rf"\b((?:non|un)[- ])?{either}\b", text, re.IGNORECASE):
        before = _CLAUSE.split(text[: found.start()])[-1]
        label = spelling[found[2].casefold()]
        if _OPEN.search(before) or (label == "no" and (_NO_OF.match(text, found.end()) or _NO_THING.search(before))):
            continue
        of_words = label in ("yes", "no")  # "not" is then an answer of its own: "It is not. yes"
        negated = found[1] or (re.search(r"\bnot\W+$", before, re.I) if of_words else _NEGATED.search(before))
        return labels[1 - labels.index(label)] if negated else label
    return None


def is_gold(item: Item, answer: Answer) -> Score:
    """Score 1 if the parsed answer is one of the item's golds; an unparseable answer is wrong."""
    return Score(float(answer.parseable and answer.value in item.gold))


def majority(items: Sequence[Item]) -> float:
    """The share of the most common first gold: the score of a constant answer. 0 without items."""
    if not items:
        return 0.0
    return max(Counter(item.gold[0] for item in items).values()) / len(items)


class TwoLabels:
    """Base class of abilities with two labels: parser, score, gold answer and floor."""

    labels: ClassVar[tuple[str, str]]

    def parse(self, text: str) -> Answer:
        return label_in(text, self.labels)

    def score(self, item: Item, answer: Answer) -> Score:
        return is_gold(item, answer)

    def gold_answer(self, item: Item) -> str:
        return item.gold[0]

    def floor(self, items: Sequence[Item]) -> float:
        """The share of the majority class among these items."""
        return majority(items)


def squad_normalized(text: str) -> str:
    """The text normalized as in SQuAD v1.1 (Rajpurkar et al. 2016): lower case, punctuation, articles, white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(text: str, golds: Sequence[str]) -> float:
    """1.0 if the normalized text equals a normalized gold, else 0.0. An empty text matches no gold."""
    answer = squad_normalized(text)
    return float(bool(answer) and any(answer == squad_normalized(gold) for gold in golds))


def token_f1(text: str, golds: Sequence[str]) -> float:
    """The highest token F1 over all golds, as in SQuAD v1.1: 0 without a common token, also for two empty texts."""
    return max((_token_f1(squad_normalized(text).split(), squad_normalized(gold).split()) for gold in golds), default=0)


def _token_f1(words: list[str], gold: list[str]) -> float:
    common = sum((Counter(words) & Counter(gold)).values())
    return 2 * common / (len(words) + len(gold)) if common else 0.0
