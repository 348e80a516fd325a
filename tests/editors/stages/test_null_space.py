"""Which directions of key space are free to write."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.editors.stages.null_space import null_space
from audit.errors import AuditError


def moment(spectrum: list[float], seed: int = 0) -> torch.Tensor:
    size = len(spectrum)
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    basis: torch.Tensor = torch.linalg.qr(noise).Q
    return basis @ torch.diag(torch.tensor(spectrum, dtype=torch.float64)) @ basis.T


def test_eigenvalues_below_the_threshold_are_free() -> None:
    C = moment([1e-3, 1e-2, 0.5, 4.0])
    space = null_space(C, 3, threshold=0.02)
    assert space.basis.shape == (4, 2)
    assert space.share == 0.5
    assert space.left == pytest.approx(0.011) and space.total == pytest.approx(4.511)
    torch.testing.assert_close(space.basis.T @ C @ space.basis, torch.diag(torch.tensor([1e-3, 1e-2])).double())


@given(st.floats(1e-6, 1e6), st.integers(0, 100))
def test_a_share_does_not_depend_on_the_scale_of_the_keys(scale: float, seed: int) -> None:
    C = moment([1e-3, 1e-2, 0.5, 4.0], seed)
    one, other = (null_space(x, 0, threshold=0.02, share=0.75).basis for x in (C, scale * C))
    torch.testing.assert_close(one @ one.T, other @ other.T, rtol=0, atol=1e-6)


def test_no_free_direction_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        AuditError, match=r"none of the 2 key dimensions of layer 3 .* null_space_threshold 0\.02 .*0\.5\."
    ):
        null_space(torch.eye(2), 3, threshold=0.02)
    with pytest.raises(AuditError, match=r"with null_space_share 0\.4"):
        null_space(torch.eye(2), 3, threshold=0.02, share=0.4)
    with pytest.raises(AuditError, match="not finite"):
        null_space(torch.full((2, 2), float("nan")), 3, threshold=0.02)
