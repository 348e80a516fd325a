"""Very many clusters are resampled in random groups: bounded in time, with nearly the same limits."""

import numpy as np
import pytest

from audit.verdicts import random_groups
from audit.verdicts.alarm import harm_p_value
from audit.verdicts.margins import Points, Retained
from audit.verdicts.random_groups import GROUPS, MANY, in_random_groups
from audit.verdicts.verdict import judge


def test_up_to_many_clusters_nothing_is_grouped():
    table = np.random.default_rng(0).random((MANY, 2))
    assert in_random_groups(table, 0) is table


def test_groups_have_equal_sizes_and_the_same_sums():
    table = np.stack([np.arange(MANY + 7, dtype=float), np.ones(MANY + 7)], axis=1)
    grouped = in_random_groups(table, 3)
    assert grouped.shape == (GROUPS, 2)
    assert grouped.sum(axis=0).tolist() == table.sum(axis=0).tolist()
    assert set(grouped[:, 1]) == {10.0, 11.0}
    assert np.array_equal(grouped, in_random_groups(table, 3))
    assert not np.array_equal(grouped, in_random_groups(table, 4))
    ramp = np.diff(grouped[:, 0] / grouped[:, 1])
    assert (ramp > 0).any() and (ramp < 0).any()  # at random, not in the order of the rows


@pytest.mark.parametrize("margin", [Points(0.01), Retained(0.9)])
@pytest.mark.parametrize("floored", [False, True])
def test_the_limits_are_nearly_those_of_single_clusters(margin, floored, monkeypatch):
    generator = np.random.default_rng(1)
    base = generator.beta(3, 6, 3000)
    edited = np.clip(base - 0.004 + 0.05 * generator.standard_normal(3000), 0, 1)
    floors = {"floors": base * 0.6} if floored else {}

    def limits():
        found = judge(base, edited, margin=margin, floor=0.0, **floors)
        return np.array([found.lower, found.upper]), found.base_lower, found.drop

    single, base_lower, drop = limits()
    monkeypatch.setattr(random_groups, "MANY", 1000)
    monkeypatch.setattr(random_groups, "GROUPS", 400)
    grouped, other_lower, other_drop = limits()
    assert drop == other_drop
    assert np.abs(grouped - single).max() < 0.05 * (single[1] - single[0])
    assert grouped.tolist() != single.tolist()
    assert other_lower == pytest.approx(base_lower, abs=1e-3)


def test_grouped_swaps_keep_the_error_of_the_alarm(monkeypatch):
    monkeypatch.setattr(random_groups, "MANY", 300)
    monkeypatch.setattr(random_groups, "GROUPS", 100)
    monkeypatch.setattr("audit.verdicts.alarm.FLIPS", 999)
    generator = np.random.default_rng(5)
    found = []
    for _ in range(300):
        base = generator.beta(3, 6, 400)
        found.append(harm_p_value(base, np.clip(base + 0.02 * generator.standard_t(3, 400), 0, 1)))
    shares = [float((np.array(found) <= alpha).mean()) for alpha in (0.05, 0.5)]
    assert 0.01 <= shares[0] <= 0.09 and 0.41 <= shares[1] <= 0.59
