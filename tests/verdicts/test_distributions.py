import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from audit.verdicts.intervals import (
    binomial_upper_tail,
    incomplete_beta,
    normal_quantile,
    t_quantile,
    t_upper_tail,
)


@pytest.mark.parametrize("probability", [0.005, 0.025, 0.3, 0.5, 0.9, 0.95, 0.995])
@pytest.mark.parametrize("freedom", [1, 2, 4.5, 29, 500])
def test_quantiles_agree_with_scipy(probability, freedom):
    assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), abs=1e-8)
    assert normal_quantile(probability) == pytest.approx(stats.norm.ppf(probability), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.floats(0.01, 0.99))
def test_the_binomial_tail_agrees_with_scipy(least, trials, probability):
    expected = stats.binom.sf(least - 1, trials, probability)
    assert binomial_upper_tail(least, trials, probability) == pytest.approx(expected, rel=1e-8, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.5, 500), st.floats(0.5, 500), st.floats(0, 1))
def test_the_incomplete_beta_function_agrees_with_scipy(a, b, x):
    from scipy.special import betainc

    assert incomplete_beta(a, b, x) == pytest.approx(betainc(a, b, x), rel=1e-8, abs=1e-12)


def test_no_degree_of_freedom_means_no_limit():
    assert t_quantile(0.95, 0) == float("inf")
    assert t_upper_tail(-1.0, 5) == pytest.approx(stats.t.sf(-1, 5))
