import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest

from audit.verdicts.intervals import (
    Limits,
    clustered_limits,
    clustered_wilson_lower,
    design_effect,
    effective_clusters,
    f1_of,
    inverted,
    normal_quantile,
    paired_limits,
    recall_by_class_of,
    resolution,
    tango_statistic,
    wilson_lower,
)


def tango(lost: int, gained: int, pairs: int, alpha: float = 0.05) -> Limits:
    """Tango's limits as published: without the correction for whole numbers."""
    return inverted(tango_statistic, lost, gained, pairs, normal_quantile(1 - alpha))


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
    z = 1.6448536
    assert tango(0, 0, 277) == pytest.approx((-z * z / (277 + z * z), z * z / (277 + z * z)))
    assert paired_limits(0, 0, 277) == (-resolution(277), resolution(277))
    assert resolution(277) == pytest.approx(binomtest(0, 277).proportion_ci(0.90).high)


@pytest.mark.parametrize("table", [(5, 2, 40), (1, 7, 21), (12, 0, 300), (28, 25, 618)])
def test_the_correction_for_whole_numbers_widens_both_limits_a_little(table):
    plain, corrected = tango(*table), paired_limits(*table)
    step = 1 / table[2]
    assert plain.lower - 1.1 * step < corrected.lower < plain.lower
    assert plain.upper < corrected.upper < plain.upper + 1.1 * step


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
def test_the_limits_hold_their_estimate_and_their_bounds(table):
    n, lost, gained = table
    lower, upper = paired_limits(lost, gained, n)
    assert -1 <= lower <= (lost - gained) / n <= upper <= 1


@settings(max_examples=40, deadline=None)
@given(tables())
def test_swapping_the_models_mirrors_the_limits(table):
    n, lost, gained = table
    lower, upper = paired_limits(lost, gained, n)
    assert paired_limits(gained, lost, n) == pytest.approx((-upper, -lower), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(tables(100))
def test_more_confidence_is_wider_and_more_items_are_narrower(table):
    n, lost, gained = table
    lower, upper = paired_limits(lost, gained, n)
    surer, many = paired_limits(lost, gained, n, 0.01), paired_limits(4 * lost, 4 * gained, 4 * n)
    assert surer.lower <= lower and upper <= surer.upper
    assert many.upper - many.lower <= upper - lower + 1e-9


CLUSTERS = st.lists(
    st.integers(1, 5).flatmap(
        lambda m: st.integers(0, m).flatmap(lambda lost: st.tuples(st.just(lost), st.integers(0, m - lost), st.just(m)))
    ),
    min_size=2,
    max_size=15,
)


@settings(max_examples=40, deadline=None)
@given(CLUSTERS)
def test_shared_sources_never_narrow_the_limits_and_a_swap_mirrors_them(rows):
    lost, gained, sizes = np.array(rows, dtype=float).T
    lower, upper = clustered_limits(lost, gained, sizes)
    items = paired_limits(lost.sum(), gained.sum(), sizes.sum())
    assert -1 <= lower <= items.lower + 1e-12 and items.upper - 1e-12 <= upper <= 1
    assert clustered_limits(gained, lost, sizes) == pytest.approx((-upper, -lower), abs=1e-12)
    assert clustered_wilson_lower(lost, sizes) <= wilson_lower(lost.sum(), sizes.sum()) + 1e-12


def test_the_design_effect_is_the_clustered_over_the_plain_variance():
    generator = np.random.default_rng(4)
    sizes = generator.integers(1, 6, 400)
    groups = np.repeat(np.arange(400), sizes)
    fate = generator.random(400)[groups]
    values = (fate < 0.3).astype(float) - (fate > 0.9)
    residuals = values - values.mean()
    # The sandwich estimate of a mean's variance (Liang and Zeger, 1986): residuals are summed in each cluster.
    robust = sum(residuals[groups == group].sum() ** 2 for group in range(400)) / len(values) ** 2
    naive = values.var() / len(values)
    found = design_effect(np.bincount(groups, weights=values), sizes, np.square(values).sum())
    assert found == pytest.approx(robust / naive, rel=0.02)  # but for C / (C - 1) and the one cluster more
    assert found > 2


def test_clusters_of_one_item_are_their_number_and_large_ones_count_less():
    assert effective_clusters([1] * 30) == 30
    assert effective_clusters([10, 1, 1]) == pytest.approx(144 / 102)
    assert clustered_limits([1.0], [0.0], [5.0]) == (-1.0, 1.0)


def test_corpus_f1_is_that_of_the_summed_counts():
    counts = np.array([[2, 1, 0], [0, 0, 3], [1, 0, 0]], dtype=float)
    assert f1_of(counts.sum(axis=0)) == pytest.approx(2 * 3 / (2 * 3 + 1 + 3))
    assert f1_of(np.zeros(3)) == 0.0
    assert f1_of(counts).tolist() == pytest.approx([0.8, 0.0, 1.0])


def test_recall_by_class_weighs_classes_alike_and_leaves_out_absent_ones():
    sums = np.array([[9, 90, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=float)
    assert recall_by_class_of(sums).tolist() == pytest.approx([(0.1 + 1.0) / 2, 0.0])
