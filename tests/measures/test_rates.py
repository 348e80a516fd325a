"""Rates and their Wilson intervals."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from audit.measures.rates import rate_by_request, wilson_interval


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(counts: tuple[int, int]) -> None:
    successes, n = counts
    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_known_interval() -> None:
    assert wilson_interval(10, 10) == (pytest.approx(0.7224672), 1.0)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5), (math.nan, 5)])
def test_impossible_counts(successes: float, n: int) -> None:
    with pytest.raises(ValueError, match="impossible"):
        wilson_interval(successes, n)


def test_no_scores_give_no_rate() -> None:
    assert rate_by_request([]) is None


def test_requests_weigh_the_same_however_many_probes_they_have() -> None:
    rate = rate_by_request([("a", 1.0), ("b", 0.0), ("b", 0.0), ("b", 1.0), ("b", 1.0)])
    assert rate is not None
    assert (rate.value, rate.n, rate.probes) == (0.75, 2, 5)
    assert (rate.lower, rate.upper) == wilson_interval(1.5, 2)
    assert str(rate) == f"0.750 [{rate.lower:.3f}, {rate.upper:.3f}], n = 2"


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 1)), min_size=1))
def test_a_rate_lies_inside_its_interval(scores: list[tuple[str, float]]) -> None:
    rate = rate_by_request(scores)
    assert rate is not None
    assert 0 <= rate.lower <= rate.value + 1e-12
    assert rate.value - 1e-12 <= rate.upper <= 1
    assert rate.probes == len(scores)


def test_ten_thirds_of_one_do_not_exceed_the_count() -> None:
    third = sum([0.1] * 10)  # 0.9999999999999999
    rate = rate_by_request([(str(index), third + 1e-16) for index in range(7)])
    assert rate is not None
    assert rate.upper <= 1
