"""Comparison with SQuAD v1.1: normalization and matching, written out from its definition."""

import re
import string
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.abilities.readings.words import exact_match, squad_normalized, token_f1
from tests.abilities.data.test_real_slices import REAL, real_items

WORDS = st.lists(st.sampled_from(["The", "a", "AN", "Velden", "u.s.", "D.C.,", "it's", "(owl)", "12", "é"]), max_size=6)
TEXTS = st.text(max_size=30) | WORDS.map(" ".join)


def normalize(text: str) -> str:
    """Lower case, then punctuation, then articles, then white space."""
    lowered = text.lower()
    without_marks = "".join(letter for letter in lowered if letter not in set(string.punctuation))
    without_articles = re.sub(r"\b(a|an|the)\b", " ", without_marks)
    return " ".join(without_articles.split())


def f1(said: str, gold: str) -> float:
    said_words, gold_words = normalize(said).split(), normalize(gold).split()
    common = sum((Counter(said_words) & Counter(gold_words)).values())
    if not common:
        return 0.0
    precision, recall = common / len(said_words), common / len(gold_words)
    return 2 * precision * recall / (precision + recall)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_the_same_normalization(text: str) -> None:
    assert squad_normalized(text) == normalize(text)


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=4))
def test_the_same_matches_and_f1_over_all_golds(said: str, golds: list[str]) -> None:
    # In SQuAD an answer and a gold that are both empty after normalization match; here they do not.
    expected = bool(normalize(said)) and any(normalize(said) == normalize(gold) for gold in golds)
    assert exact_match(said, golds) == expected
    assert token_f1(said, golds) == pytest.approx(max(f1(said, gold) for gold in golds))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no slices of the real data sets in {REAL}")
def test_real_golds_are_read_alike() -> None:
    items = real_items("open_qa")
    for item, other in zip(items, [*items[1:], items[0]], strict=True):
        for gold in item.gold:
            assert squad_normalized(gold) == normalize(gold)
            said = f"The {gold.upper()}!"
            assert exact_match(said, item.gold) == 1.0
            assert token_f1(said, other.gold) == pytest.approx(max(f1(said, one) for one in other.gold))
