import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest

from audit.verdicts.intervals import (
    f1_of,
    mean_of,
    normal_quantile,
    paired_bootstrap,
    recall_by_class_of,
    resolution,
    smallest_margin,
    tango,
    tango_statistic,
    wilson_lower,
)


@pytest.mark.parametrize(
    ("lost", "gained", "pairs", "alpha", "limits", "digits"),
    [
        # Bentur et al. (2009), airway hyper-responsiveness, in Fagerland, Lydersen and Laake (2014), 95 % two-sided.
        (1, 7, 21, 0.025, (-0.517, -0.026), 3),
        # R's PropCIs::scoreci.mp(25, 28, 618), 90 % two-sided; its estimand is (second - first) / n.
        (28, 25, 618, 0.05, (-0.0148, 0.0247), 4),
    ],
)
def test_tango_gives_the_published_limits(lost, gained, pairs, alpha, limits, digits):
    assert tuple(round(limit, digits) for limit in tango(lost, gained, pairs, alpha)) == limits


@pytest.mark.parametrize(
    ("lost", "gained", "pairs", "drop"), [(5, 2, 40, 0.2), (5, 2, 40, -0.1), (0, 3, 20, 0.05), (9, 1, 30, 0.0)]
)
def test_the_statistic_uses_the_constrained_maximum_of_the_likelihood(lost, gained, pairs, drop):
    def loss(gain: float) -> float:
        cells = ((lost, gain + drop), (gained, gain), (pairs - lost - gained, 1 - 2 * gain - drop))
        return -sum(count * math.log(max(share, 1e-300)) for count, share in cells if count)

    gain = minimize_scalar(loss, bounds=(max(0.0, -drop), (1 - drop) / 2), method="bounded", options={"xatol": 1e-12}).x
    expected = (lost - gained - pairs * drop) / math.sqrt(pairs * (2 * gain + drop - drop * drop))
    assert tango_statistic(lost, gained, pairs, drop) == pytest.approx(expected, rel=1e-4)


def test_no_discordant_pair_is_not_certainty():
    # Wald's interval has no width here; 277 is the size of RTE's validation split.
    lower, upper = tango(0, 0, 277)
    assert (lower, upper) == (-upper, upper)
    assert upper == pytest.approx(resolution(277), abs=1e-12)
    assert upper == pytest.approx(0.0097, abs=5e-5)


@pytest.mark.parametrize(("right", "n"), [(0, 7), (7, 7), (3, 9), (200, 400)])
def test_wilson_agrees_with_scipy(right, n):
    expected = binomtest(right, n, alternative="greater").proportion_ci(0.95, method="wilson").low
    assert wilson_lower(right, n) == pytest.approx(expected, abs=1e-12)


def tables(limit: int = 200):
    return st.integers(1, limit).flatmap(
        lambda n: st.tuples(st.just(n), st.integers(0, n)).flatmap(
            lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), st.integers(0, pair[0] - pair[1]))
        )
    )


@settings(max_examples=40, deadline=None)
@given(tables())
def test_tango_holds_its_estimate_and_its_bounds(table):
    n, lost, gained = table
    lower, upper = tango(lost, gained, n)
    assert -1 <= lower <= (lost - gained) / n <= upper <= 1


@settings(max_examples=40, deadline=None)
@given(tables())
def test_swapping_the_models_mirrors_tango(table):
    n, lost, gained = table
    lower, upper = tango(lost, gained, n)
    assert tango(gained, lost, n) == pytest.approx((-upper, -lower), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(tables(100))
def test_more_confidence_is_wider_and_more_items_are_narrower(table):
    n, lost, gained = table
    lower, upper = tango(lost, gained, n)
    surer, many = tango(lost, gained, n, 0.01), tango(4 * lost, 4 * gained, 4 * n)
    assert surer.lower <= lower and upper <= surer.upper
    assert many.upper - many.lower <= upper - lower + 1e-9


@pytest.mark.parametrize(("n", "discordance", "margin"), [(277, 0.10, 0.05), (872, 0.04, 0.02)])
def test_a_drop_at_the_margin_is_rarely_certified(n, discordance, margin):
    """Type-I error at the boundary, 2,000 seeded runs: nominal 5 %, standard error 0.5 points."""
    loses, gains = (discordance + margin) / 2, (discordance - margin) / 2
    runs = np.random.default_rng(5).multinomial(n, [loses, gains, 1 - discordance], size=2000)
    certified = [tango_statistic(lost, gained, n, margin) <= -normal_quantile(0.95) for lost, gained, _ in runs]
    assert np.mean(certified) < 0.065


def mean_table(scores: np.ndarray) -> np.ndarray:
    return np.stack([scores, np.ones_like(scores)], axis=1)


def test_the_bootstrap_agrees_with_the_normal_limits_of_a_large_sample():
    generator = np.random.default_rng(1)
    base = generator.random(2000)
    edited = np.clip(base - 0.05 + 0.2 * generator.standard_normal(2000), 0, 1)
    (lower, upper), base_lower = paired_bootstrap(mean_table(base), mean_table(edited), mean_of)
    drops = base - edited
    error = 1.645 * drops.std() / math.sqrt(2000)
    assert (lower, upper) == pytest.approx((drops.mean() - error, drops.mean() + error), abs=5e-4)
    assert base_lower == pytest.approx(base.mean() - 1.645 * base.std() / math.sqrt(2000), abs=1e-3)


def test_whole_clusters_are_drawn():
    generator = np.random.default_rng(2)
    per_cluster = generator.random(100)
    items = np.repeat(per_cluster, 9)
    clustered = np.stack([per_cluster * 9, np.full(100, 9.0)], axis=1)
    nothing = clustered * [0, 1]
    (lower, upper), _ = paired_bootstrap(clustered, nothing, mean_of)
    (naive_lower, naive_upper), _ = paired_bootstrap(mean_table(items), mean_table(np.zeros(900)), mean_of)
    assert upper - lower == pytest.approx(3 * (naive_upper - naive_lower), rel=0.1)


def test_the_bootstrap_is_never_surer_than_its_clusters():
    scores = mean_table(np.full(30, 0.4))
    (lower, upper), base_lower = paired_bootstrap(scores, scores, mean_of)
    assert (lower, upper) == pytest.approx((-resolution(30), resolution(30)))
    assert base_lower == pytest.approx(0.4 - resolution(30))


def test_corpus_f1_is_that_of_the_summed_counts():
    counts = np.array([[2, 1, 0], [0, 0, 3], [1, 0, 0]], dtype=float)
    assert f1_of(counts.sum(axis=0)) == pytest.approx(2 * 3 / (2 * 3 + 1 + 3))
    assert f1_of(np.zeros(3)) == 0.0
    assert f1_of(counts).tolist() == pytest.approx([0.8, 0.0, 1.0])


SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12)


@settings(max_examples=12, deadline=None)
@given(SCORES, st.randoms(use_true_random=False))
def test_the_bootstrap_ignores_order_and_mirrors_a_swap(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    base, edited = (mean_table(np.array(column)) for column in zip(*pairs, strict=True))
    again = tuple(mean_table(np.array(column)) for column in zip(*shuffled, strict=True))
    (lower, upper), _ = paired_bootstrap(base, edited, mean_of)
    assert paired_bootstrap(*again, mean_of)[0] == pytest.approx((lower, upper), abs=1e-9)
    assert paired_bootstrap(edited, base, mean_of)[0] == pytest.approx((-upper, -lower), abs=1e-9)


@pytest.mark.parametrize(
    ("n", "discordance", "expected"),
    [(1319, 0.02, 0.0097), (277, 0.10, 0.0472), (3610, 0.05, 0.0093), (872, 0.20, 0.0377)],
)
def test_the_smallest_margin_is_that_of_the_power_formula(n, discordance, expected):
    assert smallest_margin(n, discordance) == pytest.approx(expected, abs=5e-5)


def test_the_smallest_margin_is_never_below_the_resolution():
    assert smallest_margin(100, 0.0) == resolution(100)
    assert smallest_margin(400, 0.1, alpha=0.05 / 8) > smallest_margin(400, 0.1)


def test_recall_by_class_weighs_classes_alike_and_leaves_out_absent_ones():
    sums = np.array([[9, 90, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=float)
    assert recall_by_class_of(sums).tolist() == pytest.approx([(0.1 + 1.0) / 2, 0.0])
