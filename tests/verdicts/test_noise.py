from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from audit.errors import AuditError
from audit.verdicts.intervals import f1_of, recall_by_class_of, resolution
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


def test_a_noise_floor_is_numbers_only():
    found = noise_floor(np.ones(100), np.where(np.arange(100) < 2, 0.0, 1.0))
    methods = [name for name in vars(type(found)) if not name.startswith("_")]
    assert sorted(methods) == ["alpha"]  # the default of a field
    assert all(isinstance(value, int | float) for value in vars(found).values())


@pytest.mark.parametrize("metric", [f1_of, recall_by_class_of])
def test_a_corpus_metric_moves_by_the_worst_choice_among_its_changed_items(metric):
    generator = np.random.default_rng(3)
    if metric is f1_of:
        once = generator.integers(0, 4, (60, 3))
        again = np.where(np.arange(60)[:, None] % 10 == 0, generator.integers(0, 4, (60, 3)), once)
    else:
        there = np.eye(3, dtype=int)[generator.choice(3, 60, p=[0.8, 0.15, 0.05])]
        found = [there * (generator.random((60, 1)) < 0.7) for _ in range(2)]
        found[1][8:] = found[0][8:]
        once, again = (np.stack([one, there], axis=2).reshape(60, 6) for one in found)
    changed = np.flatnonzero((once != again).any(axis=1))
    sums = []
    for chosen in product([False, True], repeat=len(changed)):
        table = once.copy()
        table[changed[list(chosen)]] = again[changed[list(chosen)]]
        sums.append(metric(table.sum(axis=0).astype(float)))
    found = noise_floor(np.ones(60), np.ones(60), counts=(once, again))
    assert found.flips == len(changed) > 1
    assert found.moved == pytest.approx(max(sums) - min(sums), abs=1e-3)
    assert found.floor > found.moved
    assert found == noise_floor(np.ones(60), np.ones(60), counts=(again, once))


def test_a_rare_class_moves_a_recall_by_class_more_than_its_items_would():
    there = np.eye(2)[[0] * 190 + [1] * 10]
    found = there.copy()
    found[-1] = 0
    once, again = (np.stack([one, there], axis=2).reshape(200, 4) for one in (there, found))
    assert noise_floor(np.ones(200), np.ones(200), counts=(once, again)).moved == pytest.approx(0.05)


def test_a_corpus_metric_without_a_flip_leaves_the_resolution_of_its_items():
    counts = np.tile([2, 1, 1], (200, 1))
    found = noise_floor(np.ones(200), np.ones(200), counts=(counts, counts))
    assert (found.flips, found.moved) == (0, 0.0)
    assert found.floor == pytest.approx(resolution(200))


def test_a_callers_mistake_is_named():
    with pytest.raises(AuditError, match="ask at least one item"):
        noise_floor([], [])
    with pytest.raises(ValueError, match="the same items twice"):
        noise_floor([1.0], [1.0, 0.0])


def test_likelihoods_that_move_in_their_last_digits_have_a_small_floor():
    generator = np.random.default_rng(0)
    once = generator.uniform(0.2, 0.9, 60)
    found = noise_floor(once, once + 1e-6 * generator.standard_normal(60), continuous=True)
    assert found.flips == 0 and found.moved < found.floor < 1e-5
    moved = noise_floor(once, np.where(np.arange(60) == 0, once - 0.15, once), continuous=True)
    assert moved.flips == 1 and 0.15 / 60 < moved.floor < 0.01
