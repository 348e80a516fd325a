"""Comparison with seqeval in its default mode (conlleval): entities from tags, and the corpus F1 of answers."""

import random
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.metrics.sequence_labeling import get_entities

from audit.abilities.ner import NER, entities
from audit.verdicts.intervals import f1_of
from tests.abilities.data.test_real_slices import REAL, real_items

ABILITY = NER()
TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
SPOKEN = {"PER": "person", "ORG": "organization", "LOC": "location", "MISC": "misc"}
SENTENCES = st.lists(st.lists(st.sampled_from(TAGS), min_size=1, max_size=8), min_size=1, max_size=5)
needs_slices = pytest.mark.skipif(not REAL.is_dir(), reason=f"no slices of the real data sets in {REAL}")


def named(tags: Sequence[str]) -> list[str]:
    """Distinct tokens, so that a surface identifies a place, as in seqeval."""
    return [f"t{k}" for k in range(len(tags))]


def spans(tokens: Sequence[str], tags: list[str]) -> list[tuple[str, str]]:
    """seqeval's (type, first, last) as our (type, surface)."""
    return [(SPOKEN[kind], " ".join(tokens[first : last + 1])) for kind, first, last in get_entities(tags)]


def corpus_f1(gold: list[list[str]], said: list[list[str]]) -> float:
    """Answers with the entities of `said`, scored against the tags of `gold`."""
    counts = []
    for gold_tags, said_tags in zip(gold, said, strict=True):
        tokens = named(gold_tags)
        item = ABILITY.item({"tokens": tokens, "ner_tags": gold_tags}, "k")
        line = "; ".join(f"{kind}: {surface}" for kind, surface in entities(tokens, said_tags)) or "none"
        counts.append(ABILITY.score(item, ABILITY.parse(line)).counts)
    return float(f1_of(np.array(counts, dtype=float).sum(axis=0)))


def seqeval_f1(gold: list[list[str]], said: list[list[str]]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where there is nothing to find
        return float(f1_score(gold, said))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(TAGS), max_size=10))
def test_any_tags_give_the_entities_of_seqeval(tags: list[str]) -> None:
    assert entities(named(tags), tags) == spans(named(tags), tags)


@settings(max_examples=60, deadline=None)
@given(SENTENCES, st.randoms(use_true_random=False))
def test_the_corpus_f1_of_any_answers_equals_seqeval(gold: list[list[str]], generator: random.Random) -> None:
    said = [[tag if generator.random() < 0.7 else generator.choice(TAGS) for tag in tags] for tags in gold]
    assert corpus_f1(gold, said) == pytest.approx(seqeval_f1(gold, said))


@needs_slices
def test_real_tags_give_the_entities_of_seqeval() -> None:
    for item in real_items("ner"):
        tokens, tags = item.fields["tokens"], item.fields["ner_tags"]
        assert entities(tokens, tags) == spans(tokens, tags)


@needs_slices
@pytest.mark.parametrize("kept", [1.0, 0.9, 0.5, 0.0])
def test_the_corpus_f1_of_the_real_slice_equals_seqeval(kept: float) -> None:
    generator = random.Random(kept)
    gold = [list(item.fields["ner_tags"]) for item in real_items("ner")]
    said = [[tag if generator.random() < kept else generator.choice(TAGS) for tag in tags] for tags in gold]
    ours = corpus_f1(gold, said)
    assert ours == pytest.approx(seqeval_f1(gold, said))
    assert (ours == 1.0) == (kept == 1.0)
