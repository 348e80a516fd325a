"""AlphaEdit: the authors' equation, solved as a smaller system; nothing is written along the old keys."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audit.editors.methods.alphaedit import AlphaEdit, AlphaEditSettings, null_space
from audit.editors.methods.memit import Memit
from audit.editors.stages.editor_settings import Shapes
from audit.editors.stages.keys import mean_keys
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch, WeightPatch, load_patch, originals_kept
from tests.editors.methods.test_memit import deltas_of
from tests.editors.plain import GROUPS, REQUESTS, relative_error

CONFIG = {"layers": "0,1", "steps": "4", "clamp_norm_factor": "2", "l2": "2"}
FAMILIES = ["gpt-2", "gpt-j", "opt", "llama-3", "gemma-2"]


def moments_for(lm: LanguageModel, rank_share: float = 0.5) -> dict[int, Tensor]:
    """Second moments of keys that span a part of the space."""
    size = lm.anatomy.inner_size
    generator = torch.Generator().manual_seed(7)
    keys = torch.randn(4 * size, int(rank_share * size), generator=generator, dtype=torch.float64)
    spread = torch.randn(int(rank_share * size), size, generator=generator, dtype=torch.float64)
    K = keys @ spread
    return dict.fromkeys((0, 1), (K.T @ K / len(K)).float())


def editor(lm: LanguageModel, **config: str) -> AlphaEdit:
    return AlphaEdit(CONFIG | config, contexts=GROUPS, moments=moments_for(lm))


def two_steps(lm: LanguageModel, alphaedit: AlphaEdit) -> tuple[Tensor, Tensor, Patch]:
    """Layer 0's keys of the first and of the second step on the model that holds the first, and the second's patch."""
    first, second = list(REQUESTS[:2]), list(REQUESTS[2:])
    with originals_kept(lm) as originals:
        alphaedit.forget(lm)
        alphaedit.edit(lm, first).write(lm, originals)
        alphaedit.remember(lm, first)
        past, keys = (mean_keys(lm, step, GROUPS, 0, 4096).T.double() for step in (first, second))
        return past, keys, alphaedit.edit(lm, second)


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_the_reduced_solve_is_the_full_one_with_the_past_in_it(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    past, K, patch = two_steps(lm, editor(lm))
    eigenvalues, U = torch.linalg.eigh(moments_for(lm)[0].double())
    U = U[:, eigenvalues < 0.02]
    assert 0 < U.shape[1] < len(K)
    P, eye = U @ U.T, torch.eye(len(K)).double()
    full = torch.linalg.solve(P @ (K @ K.T + past @ past.T) + 2 * eye, P @ K)  # the authors' X without Rᵀ
    delta = patch.deltas[lm.anatomy.weight_name(0)]  # type: ignore[attr-defined]
    assert relative_error(delta.right.T, full) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_that_the_model_uses_are_not_disturbed(family: str, families: Callable[[str], LanguageModel]) -> None:
    lm = families(family)
    moments = moments_for(lm)[0].double()
    used = torch.linalg.eigh(moments).eigenvectors[:, -5:]
    for change in deltas_of(editor(lm).edit(lm, REQUESTS)).values():
        assert float(change.norm()) > 0
        assert float((change @ used).norm()) < 1e-5 * float(change.norm())


def test_in_the_whole_space_it_is_memit_with_c_the_identity(tiny_llama: LanguageModel) -> None:
    whole = AlphaEdit(CONFIG | {"null_space_share": "1", "covariance": "identity"}, contexts=GROUPS)
    config = {key: value for key, value in CONFIG.items() if key != "l2"}
    memit = Memit(config | {"covariance": "identity", "covariance_weight": "2"}, contexts=GROUPS)
    one, other = (deltas_of(kind.edit(tiny_llama, REQUESTS)) for kind in (whole, memit))
    for name, change in one.items():
        assert relative_error(change, other[name]) < 1e-4


def test_the_order_of_requests_changes_nothing(tiny_gpt2: LanguageModel) -> None:
    alphaedit = editor(tiny_gpt2)
    one = deltas_of(alphaedit.edit(tiny_gpt2, REQUESTS))
    other = deltas_of(alphaedit.edit(tiny_gpt2, [REQUESTS[index] for index in (2, 0, 3, 1)]))
    for name, change in one.items():
        assert relative_error(other[name], change) < 1e-3


def test_a_resumed_sequence_equals_one_run(tiny_gpt2: LanguageModel) -> None:
    first, second = list(REQUESTS[:2]), list(REQUESTS[2:])
    config = CONFIG | {"contexts_per_length": "2", "context_lengths": "3"}
    through, resumed = (AlphaEdit(config, moments=moments_for(tiny_gpt2)) for _ in range(2))
    with originals_kept(tiny_gpt2) as originals:
        through.forget(tiny_gpt2)
        step = through.edit(tiny_gpt2, first)
        step.write(tiny_gpt2, originals)
        through.remember(tiny_gpt2, first)
        expected = through.edit(tiny_gpt2, second)
    with originals_kept(tiny_gpt2) as originals:
        resumed.forget(tiny_gpt2)
        step.write(tiny_gpt2, originals)
        resumed.remember(tiny_gpt2, first)
        assert resumed.edit(tiny_gpt2, second).fingerprint == expected.fingerprint


def test_the_weights_are_restored_and_the_patch_records_the_null_space(
    tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    before = weights_fingerprint(tiny_llama)
    patch = editor(tiny_llama).edit(tiny_llama, REQUESTS)
    with patch.applied(tiny_llama):
        assert weights_fingerprint(tiny_llama) != before
    assert weights_fingerprint(tiny_llama) == before
    assert isinstance(patch, WeightPatch)
    assert patch.meta["null_space.layer_0"].startswith("40 of 80 key dimensions")
    assert "null_space.warning" not in patch.meta
    patch.save(tmp_path)
    assert load_patch(tmp_path).fingerprint == patch.fingerprint


def test_a_small_null_space_gives_a_warning_and_an_empty_one_an_error(tiny_gpt2: LanguageModel) -> None:
    patch = editor(tiny_gpt2, null_space_share="0.05").edit(tiny_gpt2, [REQUESTS[0]])
    assert isinstance(patch, WeightPatch)
    assert "less than 10% of the key dimensions are free in layer 0, 1" in patch.meta["null_space.warning"]
    with pytest.raises(AuditError, match="none of the 128 key dimensions of layer 0 is free"):
        AlphaEdit(CONFIG | {"covariance": "identity"}, contexts=GROUPS).edit(tiny_gpt2, REQUESTS)


def test_two_requests_for_one_subject_are_averaged(tiny_gpt2: LanguageModel) -> None:
    again = EditRequest("again", REQUESTS[0].subject, REQUESTS[0].prompt, "Belton")
    for change in deltas_of(editor(tiny_gpt2).edit(tiny_gpt2, [REQUESTS[0], again])).values():
        assert bool(change.isfinite().all())


def test_published_settings_and_their_limits() -> None:
    assert AlphaEditSettings.published[Shapes.GPT2_XL] == {"layers": (13, 14, 15, 16, 17)}
    assert AlphaEditSettings.published[Shapes.QWEN_2_7B]["l2"] == 1.0
    assert (AlphaEditSettings().null_space_threshold, AlphaEditSettings().l2) == (0.02, 10.0)
    with pytest.raises(AuditError, match=r"l2 is 0\.0: give a number above 0"):
        AlphaEditSettings(l2=0.0).check(6)
    with pytest.raises(AuditError, match=r"null_space_share is 1\.5: give a number between 0 and 1"):
        AlphaEditSettings(null_space_share=1.5).check(6)


def moment_with(spectrum: list[float], seed: int = 0) -> torch.Tensor:
    size = len(spectrum)
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    basis: torch.Tensor = torch.linalg.qr(noise).Q
    return basis @ torch.diag(torch.tensor(spectrum, dtype=torch.float64)) @ basis.T


def test_eigenvalues_below_the_threshold_are_free() -> None:
    C = moment_with([1e-3, 1e-2, 0.5, 4.0])
    space = null_space(C, 3, threshold=0.02)
    assert space.basis.shape == (4, 2)
    assert space.share == 0.5
    assert space.left == pytest.approx(0.011) and space.total == pytest.approx(4.511)
    torch.testing.assert_close(space.basis.T @ C @ space.basis, torch.diag(torch.tensor([1e-3, 1e-2])).double())


@given(st.floats(1e-6, 1e6), st.integers(0, 100))
def test_a_share_does_not_depend_on_the_scale_of_the_keys(scale: float, seed: int) -> None:
    C = moment_with([1e-3, 1e-2, 0.5, 4.0], seed)
    one, other = (null_space(x, 0, threshold=0.02, share=0.75).basis for x in (C, scale * C))
    torch.testing.assert_close(one @ one.T, other @ other.T, rtol=0, atol=1e-6)


def test_without_free_directions_the_error_gives_a_remedy() -> None:
    with pytest.raises(
        AuditError, match=r"none of the 2 key dimensions of layer 3 .* null_space_threshold 0\.02 .*0\.5\."
    ):
        null_space(torch.eye(2), 3, threshold=0.02)
    with pytest.raises(AuditError, match=r"with null_space_share 0\.4"):
        null_space(torch.eye(2), 3, threshold=0.02, share=0.4)
    with pytest.raises(AuditError, match="not finite"):
        null_space(torch.full((2, 2), float("nan")), 3, threshold=0.02)
