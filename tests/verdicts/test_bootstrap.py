import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm

from audit.verdicts.bootstrap import (
    FEW_CHANGES,
    Changes,
    as_ratios,
    bounded_by_coins,
    changes_of,
    contrast_of,
    influences,
    paired_bootstrap,
    pivot_quantiles,
    standard_error,
)
from audit.verdicts.intervals import f1_of, recall_by_class_of, resolution


def mean_table(scores: np.ndarray) -> np.ndarray:
    return np.stack([scores, np.ones_like(scores)], axis=1)


def counts(generator, sentences: int, recall: float) -> np.ndarray:
    gold = generator.integers(0, 5, sentences)
    found = generator.binomial(gold, recall)
    return np.stack([found, generator.binomial(2, 0.1, sentences), gold - found], axis=1).astype(float)


def test_the_bootstrap_agrees_with_the_normal_limits_of_a_large_sample():
    generator = np.random.default_rng(1)
    base = generator.random(2000)
    edited = np.clip(base - 0.05 + 0.2 * generator.standard_normal(2000), 0, 1)
    (lower, upper), base_lower, error = paired_bootstrap(mean_table(base), mean_table(edited))
    drops = base - edited
    assert error == pytest.approx(drops.std(ddof=1) / math.sqrt(2000))
    assert (lower, upper) == pytest.approx((drops.mean() - 1.645 * error, drops.mean() + 1.645 * error), abs=5e-4)
    assert base_lower == pytest.approx(base.mean() - 1.645 * base.std() / math.sqrt(2000), abs=1e-3)


def test_a_few_large_losses_reach_further_up_than_down():
    """Right-skewed drops: the percentile and BCa limits of scipy lie nearer on the side that PASS depends on."""
    generator = np.random.default_rng(3)
    drops = np.where(generator.random(500) < 0.1, generator.random(500) ** 2, 0.0)
    (lower, upper), _, error = paired_bootstrap(mean_table(drops), mean_table(np.zeros(500)))
    mean = drops.mean()
    assert upper - mean > 1.75 * error > 1.04 * (mean - lower)
    for method in ("percentile", "BCa"):
        other = bootstrap((drops,), np.mean, confidence_level=0.9, method=method, rng=np.random.default_rng(0))
        assert upper > other.confidence_interval.high


def test_the_pivot_is_that_of_a_loop_over_resamples():
    """The same t* as from every resample's own scores, for the two-ratio case (F1)."""
    generator = np.random.default_rng(5)
    base, edited = as_ratios(counts(generator, 60, 0.8)), as_ratios(counts(generator, 60, 0.7))
    contrast = contrast_of(base, edited)
    drawn = np.random.default_rng(0).integers(0, 60, (199, 60))
    drop = recall_by_class_of(base.sum(0)) - recall_by_class_of(edited.sum(0))
    pivots = []
    for rows in drawn:
        again = recall_by_class_of(base[rows].sum(0)) - recall_by_class_of(edited[rows].sum(0))
        pivots.append((again - drop) / standard_error(contrast_of(base[rows], edited[rows])))
    low, high = pivot_quantiles(contrast, 0.05, seed=0, resamples=199)
    assert (float(low), float(high)) == pytest.approx((sorted(pivots)[9], sorted(pivots)[-10]), rel=1e-9)


def test_the_error_of_an_f1_is_that_of_the_jackknife():
    generator = np.random.default_rng(6)
    base, edited = counts(generator, 300, 0.8), counts(generator, 300, 0.7)

    def drop(keep: np.ndarray) -> float:
        return float(f1_of(base[keep].sum(0)) - f1_of(edited[keep].sum(0)))

    left_out = np.array([drop(np.arange(300) != k) for k in range(300)])
    jackknife = math.sqrt(299 / 300 * np.square(left_out - left_out.mean()).sum())
    contrast = contrast_of(as_ratios(base), as_ratios(edited))
    assert float(standard_error(contrast)) == pytest.approx(jackknife, rel=0.01)
    assert float(influences(contrast).sum()) == pytest.approx(0, abs=1e-12)


def test_the_clustered_error_of_a_mean_is_the_sandwich():
    generator = np.random.default_rng(7)
    groups = generator.integers(0, 50, 200)
    drops = generator.standard_normal(200) + generator.standard_normal(50)[groups]
    residuals = drops - drops.mean()
    robust = math.sqrt(sum(residuals[groups == group].sum() ** 2 for group in range(50))) / 200  # Liang and Zeger, 1986
    table = np.stack([np.bincount(groups, weights=drops), np.bincount(groups)], axis=1)
    found = standard_error(contrast_of(table, table * [0, 1]))
    assert float(found) == pytest.approx(robust * math.sqrt(50 / 49), rel=1e-9)


def test_whole_clusters_are_drawn():
    generator = np.random.default_rng(2)
    per_cluster = generator.random(100)
    items = np.repeat(per_cluster, 9)
    clustered = np.stack([per_cluster * 9, np.full(100, 9.0)], axis=1)
    (lower, upper), _, _ = paired_bootstrap(clustered, clustered * [0, 1])
    (naive_lower, naive_upper), _, _ = paired_bootstrap(mean_table(items), mean_table(np.zeros(900)))
    assert upper - lower == pytest.approx(3 * (naive_upper - naive_lower), rel=0.1)


def test_few_clusters_have_the_tails_of_student():
    base = np.stack([np.array([0.2, 0.4, 0.5, 0.3]) * 10, np.full(4, 10.0)], axis=1)
    (_, upper), _, error = paired_bootstrap(base, base * [0.5, 1])
    assert upper - 0.175 >= 2.353 * error  # t with 3 degrees of freedom
    assert paired_bootstrap(base[:1], base[:1] * [0.5, 1]).limits == (-1.0, 1.0)


def test_the_bootstrap_is_never_surer_than_its_clusters():
    scores = mean_table(np.full(30, 0.4))
    (lower, upper), base_lower, _ = paired_bootstrap(scores, scores)
    assert (lower, upper) == pytest.approx((-resolution(30), resolution(30)))
    assert base_lower == pytest.approx(0.4 - resolution(30))


def test_a_change_that_most_resamples_miss_is_bounded_all_the_same():
    base = mean_table(np.full(400, 0.5))
    edited = base.copy()
    edited[:2, 0] = 0.4
    low, _ = pivot_quantiles(contrast_of(base, edited), 0.05)
    assert float(low) == -math.inf  # more than 5 % of the resamples hold neither
    above = bounded_by_coins(base, edited, 0.05).upper
    assert paired_bootstrap(base, edited).limits.upper == pytest.approx(0.0005 + max(above, resolution(400)))
    assert above < 0.01


def test_few_changes_say_nothing_about_those_that_are_not_seen():
    base = mean_table(np.full(200, 0.5))
    edited = base.copy()
    edited[: FEW_CHANGES - 1, 0] -= 0.01
    assert changes_of(base, edited) == (FEW_CHANGES - 1, pytest.approx(0.01), pytest.approx(0.5))
    (lower, upper), _, _ = paired_bootstrap(base, edited)
    drop = 0.01 * (FEW_CHANGES - 1) / 200
    assert (lower, upper) == pytest.approx((drop - resolution(200), drop + resolution(200)))


@pytest.mark.parametrize(
    ("score", "size", "above", "below"),
    [(0.9, 0.01, 0.9, 0.02), (0.2, 0.01, 0.2, 0.02), (0.2, 0.3, 0.6, 0.6), (0.9, 0.6, 1, 1)],
)
def test_the_distance_for_unseen_changes_follows_the_scores_and_the_largest_change(score, size, above, below):
    least = Changes(FEW_CHANGES, size, score).unseen(200, 0.05)
    assert least == pytest.approx((below * resolution(200), above * resolution(200)))


@pytest.mark.parametrize("n", [100, 200])
def test_small_changes_have_limits_a_third_as_wide_as_the_resolution(n):
    generator = np.random.default_rng(n)
    base = 0.15 + 0.4 * generator.random(n)
    limits = paired_bootstrap(mean_table(base), mean_table(base - 0.02 * generator.standard_normal(n))).limits
    assert limits.upper - limits.lower <= 2 * resolution(n) / 3


def test_the_coins_bound_a_sparse_f1_in_units_of_its_largest_sentence():
    base = np.tile([[2.0, 0, 0]], (300, 1))
    base[0] = [10, 0, 0]
    edited = base.copy()
    edited[5] = [0, 0, 2]
    upper = paired_bootstrap(as_ratios(base), as_ratios(edited)).limits.upper
    drop = 1 - float(f1_of(edited.sum(0)))
    assert drop < upper < 0.08  # five times what 1 of 300 alike sentences would have


def test_an_absent_class_is_left_out():
    base = np.array([[1.0, 1, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]] * 20)
    assert paired_bootstrap(base, base).limits == paired_bootstrap(base[:, :2], base[:, :2]).limits


def test_a_share_of_the_base_is_judged_by_its_own_differences():
    generator = np.random.default_rng(8)
    base = (generator.random(500) < 0.8).astype(float)
    edited = np.where(generator.random(500) < 0.05, 0.0, base)
    (lower, upper), _, error = paired_bootstrap(mean_table(base), mean_table(edited), kept=0.9)
    rests = 0.9 * base - edited
    assert error == pytest.approx(rests.std(ddof=1) / math.sqrt(500))
    assert lower < rests.mean() - norm.ppf(0.9) * error and upper > rests.mean() + norm.ppf(0.9) * error


SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=FEW_CHANGES - 1)


@settings(max_examples=12, deadline=None)
@given(SCORES, st.randoms(use_true_random=False))
def test_the_bootstrap_ignores_order_and_mirrors_a_swap(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    base, edited = (mean_table(np.array(column)) for column in zip(*pairs, strict=True))
    again = tuple(mean_table(np.array(column)) for column in zip(*shuffled, strict=True))
    lower, upper = paired_bootstrap(base, edited).limits
    assert paired_bootstrap(*again).limits == pytest.approx((lower, upper), abs=1e-9)
    assert paired_bootstrap(edited, base).limits == pytest.approx((-upper, -lower), abs=1e-9)


@pytest.mark.parametrize("kept", [1.0, 0.9])
def test_a_base_that_is_nearly_always_right_is_not_infinitely_uncertain(kept):
    base = mean_table(
        (np.arange(400) >= 2).astype(float)
    )  # two wrong answers, which every seventh resample holds none of
    found = paired_bootstrap(base, base, alpha=0.05, kept=kept)
    assert found.base_lower > 0.97
    estimate = (kept - 1) * 0.995
    assert estimate < found.limits.upper < estimate + 0.02
    assert estimate - 0.02 < found.limits.lower < estimate
