"""The linear algebra of the write step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.editors.stages.solve import IDENTITY, factorize, least_squares_directions
from audit.errors import AuditError


def moment(size: int, seed: int, samples: int = 0) -> torch.Tensor:
    keys = torch.randn(samples or 4 * size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return keys.T @ keys / len(keys)


@given(st.integers(2, 12), st.integers(1, 20), st.floats(0.1, 1e4), st.integers(0, 1000))
def test_woodbury_equals_lu(size: int, count: int, weight: float, seed: int) -> None:
    C = moment(size, seed)
    K = torch.randn(size, count, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    expected = torch.linalg.solve(weight * C + K @ K.T, K)
    torch.testing.assert_close(least_squares_directions(factorize(C), K, weight), expected, rtol=1e-7, atol=1e-10)
    flat = torch.linalg.solve(weight * torch.eye(size, dtype=torch.float64) + K @ K.T, K)
    torch.testing.assert_close(least_squares_directions(IDENTITY, K, weight), flat, rtol=1e-7, atol=1e-10)


@given(st.integers(1, 12), st.integers(0, 1000))
def test_the_factor_inverts(size: int, seed: int) -> None:
    C, key = moment(size, seed), torch.arange(1.0, size + 1)
    factor = factorize(C)
    assert factor.ridge == 0
    torch.testing.assert_close(C @ factor.solve(key), key.double())
    torch.testing.assert_close(factor.moment(size, C.device), C)


def test_a_singular_covariance_gets_the_smallest_ridge_that_works() -> None:
    C = moment(8, 0, samples=3)
    factor = factorize(C)
    assert 0 < factor.ridge <= 1e-8
    ridged = C + factor.ridge * C.diagonal().mean() * torch.eye(8, dtype=torch.float64)
    torch.testing.assert_close(factor.moment(8, C.device), ridged)


def test_a_given_ridge_is_added() -> None:
    C = moment(5, 1)
    ridged = C + 0.5 * C.diagonal().mean() * torch.eye(5, dtype=torch.float64)
    factor = factorize(C, 0.5)
    assert factor.ridge == 0.5
    torch.testing.assert_close(factor.moment(5, C.device), ridged)


def test_an_invalid_covariance_is_refused() -> None:
    with pytest.raises(AuditError, match="covariance_tokens"):
        factorize(-torch.eye(3))
    with pytest.raises(AuditError, match="not finite"):
        factorize(torch.full((2, 2), float("nan")))


def test_equal_keys_without_weight_are_refused() -> None:
    K = torch.ones(4, 2)
    with pytest.raises(AuditError, match="covariance_weight"):
        least_squares_directions(IDENTITY, K, 0.0)
    rounded = torch.randn(6, 1, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0, 1.0 + 1e-7]])
    with pytest.raises(AuditError, match="give a larger relaxation, or requests with different subjects"):
        least_squares_directions(IDENTITY, rounded, 0.0, setting="relaxation")
