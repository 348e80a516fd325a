import numpy as np
import pytest
from scipy.stats import binomtest

from audit.errors import AuditError
from audit.verdicts.intervals import resolution
from audit.verdicts.noise import noise_floor


def test_the_floor_is_the_upper_limit_of_what_moved():
    once = np.ones(400)
    again = np.where(np.arange(400) % 100 == 0, 0.0, 1.0)
    found = noise_floor(once, again)
    assert (found.flips, found.moved) == (4, 0.01)
    assert found.floor == pytest.approx(binomtest(4, 400).proportion_ci(0.9, method="wilson").high)


def test_no_flip_still_leaves_the_resolution():
    assert noise_floor(np.ones(400), np.ones(400)).floor == resolution(400)
    together = noise_floor(np.ones(400), np.ones(400), clusters=[str(k // 4) for k in range(400)])
    assert together.floor == pytest.approx(resolution(100))


def test_flips_either_way_count():
    once, again = np.zeros(100), np.zeros(100)
    once[:3], again[3:6] = 1, 1
    assert noise_floor(once, again).moved == 0.06


def test_small_moves_of_graded_scores_count_for_what_they_are():
    once = np.full(200, 0.5)
    again = once + 0.01
    assert noise_floor(once, again).moved == pytest.approx(0.01)
    assert noise_floor(once, again).flips == 200


def test_a_margin_under_the_floor_is_refused_in_a_sentence():
    found = noise_floor(np.ones(100), np.where(np.arange(100) < 2, 0.0, 1.0))
    assert found.refusal("nli", found.floor) is None
    sentence = found.refusal("nli", 0.01)
    assert sentence is not None
    assert "nli: a margin of 0.01 is under the noise floor" in sentence
    assert "changed 2 of 100 scores" in sentence


def test_a_callers_mistake_is_named():
    with pytest.raises(AuditError, match="ask at least one item"):
        noise_floor([], [])
    with pytest.raises(ValueError, match="the same items twice"):
        noise_floor([1.0], [1.0, 0.0])
