"""Comparison with rouge-score and with ROUGE as defined by Lin (2004)."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from audit.abilities.summarization import Summarization
from tests.abilities.data.test_real_slices import REAL, real_items

ABILITY = Summarization()
KINDS = ["rouge1", "rouge2", "rougeL"]
SCORER = RougeScorer(KINDS, use_stemmer=True)
STEMS = {"meets": "meet", "meeting": "meet", "lakes": "lake", "running": "run", "runs": "run"}  # as Porter has them
WORDS = st.lists(
    st.sampled_from("Mara meets Jon at the lakes ; they run in a meeting , runs running lake".split()), min_size=1
)


def ours(summary: str, said: str) -> tuple[float, dict[str, float]]:
    item = ABILITY.item({"dialogue": "A: hi", "summary": summary}, "k")
    score = ABILITY.score(item, ABILITY.parse(said))
    return score.value, dict(score.beside)


def f_measure(hits: int, said: int, gold: int) -> float:
    return 2 * hits / (said + gold) if said and gold else 0.0


def plain_rouge(summary: str, said: str) -> list[float]:
    """n-gram overlap for n = 1 and 2, and the longest common subsequence, of stemmed words of letters and digits."""
    gold_words, said_words = (
        [STEMS.get(word, word) for word in text.lower().split() if word.isalnum()] for text in (summary, said)
    )
    scores = []
    for n in (1, 2):
        gold_grams, said_grams = (
            Counter(tuple(words[k : k + n]) for k in range(len(words) - n + 1)) for words in (gold_words, said_words)
        )
        hits = sum((gold_grams & said_grams).values())
        scores.append(f_measure(hits, said_grams.total(), gold_grams.total()))
    lengths = [0] * (len(gold_words) + 1)  # of the longest common subsequence with each beginning of the gold
    for word in said_words:
        before = lengths[:]
        for k, gold in enumerate(gold_words):
            lengths[k + 1] = before[k] + 1 if word == gold else max(before[k + 1], lengths[k])
    return [*scores, f_measure(lengths[-1], len(said_words), len(gold_words))]


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS)
def test_the_three_values_are_those_of_the_definition(summary: list[str], said: list[str]) -> None:
    value, beside = ours(" ".join(summary), " ".join(said))
    expected = plain_rouge(" ".join(summary), " ".join(said))
    assert list(beside.values()) == pytest.approx(expected)
    assert value == pytest.approx(sum(expected) / 3)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no slices of the real data sets in {REAL}")
def test_real_summaries_score_what_rouge_score_gives_them() -> None:
    generator = random.Random(0)
    items = real_items("summarization")
    for item in items[:60]:
        words = item.gold[0].split()
        shortened = " ".join(word for word in words if generator.random() < 0.7)
        for said in (item.gold[0], shortened or words[0], items[0].gold[0], str(item.fields["dialogue"])[:80]):
            expected = SCORER.score(item.gold[0], said)
            value, beside = ours(item.gold[0], said)
            assert beside == {kind: expected[kind].fmeasure for kind in KINDS}
            assert value == pytest.approx(sum(beside.values()) / 3)
