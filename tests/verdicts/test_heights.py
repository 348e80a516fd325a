import math

import numpy as np
import pytest

from audit.verdicts.bootstrap import FEW_CHANGES, as_means, bounded_by_coins, nearer_by_coins, paired_bootstrap
from audit.verdicts.heights import ChangesAboveFloor, Heights
from audit.verdicts.intervals import Limits, paired_limits, resolution
from audit.verdicts.placements import SPAN, as_pairs, placements


def readings(seed: int, n: int, height: float = 0.25, loss: float = 0.02, noise: float = 0.02):
    """(n,) base scores, edited scores and floors of a likelihood reading."""
    generator = np.random.default_rng(seed)
    floors = np.clip(0.4 + 0.15 * generator.standard_normal(n), 0, 1)
    base = np.clip(floors + height * generator.exponential(size=n) ** 0.5, 0, 1)
    return base, np.clip(base - loss + noise * generator.standard_normal(n), 0, 1), floors


def test_the_same_floor_for_all_items_is_a_constant_floor():
    base, edited, _ = readings(0, 300)
    floors = np.full(300, 0.3)
    before, after = as_means(base), as_means(edited)
    old, base_lower, _ = paired_bootstrap(before, after, kept=0.9)
    heights = Heights.of_scores(base, edited, floors, np.arange(300))
    new = heights.limits(0.9)
    assert new.lower - 0.1 * 0.3 == pytest.approx(old.lower, abs=1e-12)
    # Their upper limits differ by what an unseen loss can cost: all of the score, or what is above the floor.
    above = base - floors
    height = float(np.maximum(above, 0).mean())
    assert heights.changes.height == pytest.approx(height)
    estimate = float((0.9 * base + 0.1 * floors - edited).mean())
    assert new.lower < estimate < new.upper
    unseen, seen = height * resolution(300), estimate - new.lower
    assert new.upper - estimate == pytest.approx(math.hypot(unseen, seen), rel=0.02)
    assert old.upper + 0.1 * 0.3 == pytest.approx(estimate + (base**2).sum() / base.sum() * resolution(300))
    assert new.upper < old.upper + 0.1 * 0.3
    assert 0.3 + heights.lower() == pytest.approx(base_lower, abs=1e-3)  # from other resamples


def test_a_floor_that_varies_with_the_score_makes_the_limits_of_the_height_nearer():
    base, edited, floors = readings(1, 200)
    own = Heights.of_scores(base, edited, floors, np.arange(200))
    shared = Heights.of_scores(base, edited, np.full(200, floors.mean()), np.arange(200))
    height = base.mean() - floors.mean()
    assert shared.lower() < own.lower() < height
    direct = height - 1.6525 * (base - floors).std(ddof=1) / 200**0.5  # Student's
    assert own.lower() == pytest.approx(direct, abs=2e-3)


@pytest.mark.parametrize(
    ("changed", "size", "height", "span", "below", "above"),
    [
        (FEW_CHANGES - 1, 0.5, 0.2, 1.0, 1.0, 0.2),  # few changes say nothing about sizes
        (FEW_CHANGES, 0.01, 0.2, 1.0, 0.0, 0.2),
        (FEW_CHANGES, 0.9, 0.2, 1.0, 0.0, 0.2),
        (0, 0.0, 0.6, SPAN, 2.0, 0.6),
        (FEW_CHANGES, 1.5, 0.6, SPAN, 0.0, 0.6),
    ],
)
def test_the_distance_for_unseen_losses_is_a_height(changed, size, height, span, below, above):
    found = ChangesAboveFloor(changed, size, height, span).unseen(200, 0.05)
    assert found == pytest.approx((below * resolution(200), above * resolution(200)))


def test_the_height_of_a_cluster_is_that_of_its_items_together():
    base, floors = np.array([0.9, 0.1, 0.6, 0.5]), np.array([0.1, 0.3, 0.5, 0.7])
    heights = Heights.of_scores(base, base, floors, np.array([0, 0, 1, 1]))
    assert heights.changes.height == pytest.approx(0.15)  # the other cluster lies below its floor
    alone = Heights.of_scores(base, base, floors, np.arange(4))
    assert alone.changes.height == pytest.approx((0.8 + 0.1) / 4)


def ranked(seed: int, n: int = 100):
    generator = np.random.default_rng(seed)
    positives = np.arange(n) < n // 2
    return positives + generator.standard_normal(n), positives


def test_one_item_of_an_area_reaches_twice_as_far_as_in_a_recall():
    positives = np.arange(100) < 50
    odds = np.where(positives, 1.0, 0.0) + np.arange(100) / 1000
    broken = odds.copy()
    broken[0] = -1.0  # below all negatives: the area falls by 1 / 50
    first, second = (placements(table[:, None], positives) for table in (odds, broken))
    heights = Heights.of_placements(first, second, positives, np.arange(100))
    assert heights.changes.largest == pytest.approx(2.0, rel=0.02)  # of 100 items, each worth 1 / 100
    assert heights.changes.height == 1.0  # 2 (1 - 1/2)
    pairs = [as_pairs(placed, positives) for placed in (first, second)]
    wide, narrow = (bounded_by_coins(*pairs, 0.05, span) for span in (SPAN, 1.0))
    one = paired_limits(1, 0, 100).upper - 0.01  # one item of 100, which is worth 1 / 50
    assert 2 * one < wide.upper < 2.3 * one
    assert narrow.upper < 1.5 * one
    assert heights.limits(1.0).upper >= 0.02 + resolution(100)


def test_only_items_whose_own_placement_moved_count_as_changed():
    odds, positives = ranked(4)
    order = np.argsort(odds)
    pair = next(order[k : k + 2] for k in range(99) if positives[order[k]] != positives[order[k + 1]])
    swapped = odds.copy()
    swapped[pair] = odds[pair[::-1]]
    first, second = (placements(table[:, None], positives) for table in (odds, swapped))
    assert Heights.of_placements(first, second, positives, np.arange(100)).changes.changed == 2
    assert Heights.of_placements(first, first, positives, np.arange(100)).changes[:2] == (0, 0.0)


def test_items_that_rank_as_often_wrong_as_right_cost_the_height_of_the_area():
    """A share r of them lowers the AUC by 2 r (A - 1/2), and items that take each other's odds by half of that."""
    generator = np.random.default_rng(5)
    positives, share, falls = np.arange(4000) < 2000, 0.03, []
    for _ in range(20):
        odds = positives + generator.standard_normal(4000)
        median = np.where(positives, np.median(odds[~positives]), np.median(odds[positives]))
        broken = generator.random(4000) < share
        tables = (odds, np.where(broken, median, odds), np.where(broken, generator.permutation(odds), odds))
        right, halved, shuffled = (placements(table[:, None], positives).mean() for table in tables)
        falls.append([(right - area) / (2 * (right - 0.5)) for area in (halved, shuffled)])
    assert np.mean(falls, axis=0) == pytest.approx([share, share / 2], rel=0.1)


@pytest.mark.parametrize("changed", [0, 1, 3, 20, 60])
def test_coins_are_tossed_only_where_they_are_nearer(changed):
    base, edited, _ = readings(changed, 60, noise=0.1)
    edited = np.where(np.arange(60) < changed, edited, base)
    tables = as_means(base), as_means(edited)
    coins = bounded_by_coins(*tables, 0.05)
    for below in (0.0, 0.9, 1 - 1e-9, 1 + 1e-9, 3.0, math.inf):
        for above in (0.0, 0.9, 1 + 1e-9, math.inf):
            given = Limits(coins.lower * below, coins.upper * above)
            expected = Limits(min(given.lower, coins.lower), min(given.upper, coins.upper))
            assert nearer_by_coins(given, *tables, 0.05) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kept", [-0.2, 0.0, 0.9, 1.0, 1.4])
def test_the_limits_hold_the_line_for_any_share(kept):
    base, edited, floors = readings(2, 120)
    limits = Heights.of_scores(base, edited, floors, np.arange(120)).limits(kept)
    assert limits.lower < float((kept * base + (1 - kept) * floors - edited).mean()) < limits.upper


def test_a_single_cluster_has_no_limits():
    base, edited, floors = readings(3, 20)
    heights = Heights.of_scores(base, edited, floors, np.zeros(20, dtype=int))
    lower, upper = heights.limits(0.9)
    assert lower < -1 and upper > 1
    assert heights.lower() < 0
