"""`audit.compare`: the statistics of this project for scores that a program has."""

import numpy as np
import pytest

import audit
from audit import AuditError
from audit.verdicts import FAIL, INCONCLUSIVE, PASS
from audit.verdicts.margins import Retained
from audit.verdicts.verdict import judge

BASE = [1] * 160 + [0] * 40
WORSE = [0] * 60 + [1] * 100 + [0] * 20 + [1] * 20


def test_lists_are_judged_in_their_order():
    assert audit.compare(BASE, BASE).outcome == PASS
    assert audit.compare(BASE, WORSE).outcome == FAIL
    assert audit.compare(BASE, WORSE, margin=0.1, floor=0.25) == judge(BASE, WORSE, margin=0.1, floor=0.25)
    assert audit.compare(BASE, BASE, floor=0.9).outcome == INCONCLUSIVE


def test_mappings_are_paired_by_their_keys():
    base = {f"q{k}": score for k, score in enumerate(BASE)}
    edited = dict(reversed([(f"q{k}", score) for k, score in enumerate(WORSE)]))
    assert audit.compare(base, edited) == audit.compare(BASE, WORSE)
    assert audit.compare(base, edited) != audit.compare(BASE, WORSE[::-1])


def test_margins_are_typed_as_everywhere():
    scores = np.linspace(0, 1, 200)
    assert audit.compare(scores, scores * 0.99, margin="90%") == judge(
        scores, scores * 0.99, margin=Retained(0.9), floor=0.0
    )
    assert audit.compare(BASE, BASE, margin="5pp").margin == 0.05


@pytest.mark.parametrize(
    ("base", "edited", "options", "sentence"),
    [
        ({"a": 1}, {"b": 1}, {}, "2 items have only one score ('a', 'b')"),
        ({"a": 1}, [1], {}, "one of the models has ids and the other has none"),
        ([1, 0], [1], {}, "2 base scores and 1 edited scores"),
        ([1, 2], [1, 1], {}, "2.0 among the base scores"),
        ([1, float("nan")], [1, 1], {}, "nan among the base scores"),
        ([], [], {}, "there are no base scores"),
        ([1, "yes"], [1, 1], {}, "could not convert string to float"),
        ([1, 0], [1, 0], {"floor": -0.5}, "a floor of -0.5 is out of range"),
        ([1, 0], [1, 0], {"floors": [0.1]}, "1 floors for 2 items"),
        ([1, 0], [1, 0], {"margin": "3%"}, "from 50% to below 100%"),
        ([1, 0], [1, 0], {"clusters": ["a"]}, "compare: "),
    ],
)
def test_wrong_scores_are_one_sentence(base, edited, options, sentence):
    with pytest.raises(AuditError) as caught:
        audit.compare(base, edited, **options)
    assert sentence in str(caught.value)
