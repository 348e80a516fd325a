"""EMMET: R-ROME for one request; for several, exact without relaxation and MEMIT's least squares with it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from audit.editors.methods.emmet import Emmet, EmmetSettings
from audit.editors.methods.memit import Memit
from audit.editors.methods.rome import RRome
from audit.editors.stages.editor_settings import Shapes
from audit.editors.stages.keys import Contexts, mean_keys
from audit.editors.stages.solve import factorize, least_squares_directions
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Patch, WeightPatch, load_patch
from tests.editors.plain import GROUPS, REQUESTS, relative_error

CONFIG = {"layer": "1", "steps": "4", "covariance": "identity", "clamp_norm_factor": "2"}
BARE = Contexts((("",),))


def change_of(patch: Patch) -> Tensor:
    assert isinstance(patch, WeightPatch)
    (delta,) = patch.deltas.values()
    assert isinstance(delta, LowRankDelta)
    return delta.left @ delta.right


def random_moment(size: int) -> Tensor:
    keys = torch.randn(4 * size, size, generator=torch.Generator().manual_seed(3))
    return keys.T @ keys / len(keys)


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_one_request_is_r_rome(family: str, request: pytest.FixtureRequest) -> None:
    """Where the MLP's output is added to the stream unchanged, a target of the block is a target of the MLP. Clamp and
    decay depend on the norm of the initial output, so they are switched off."""
    lm: LanguageModel = request.getfixturevalue(family)
    config = {"layer": "1", "steps": "4", "clamp_norm_factor": "1000", "weight_decay": "0"}
    moments = {1: random_moment(lm.anatomy.inner_size)}
    for case in REQUESTS:
        emmet = Emmet(config, contexts=BARE, moments=moments).edit(lm, [case])
        r_rome = RRome(config, contexts=BARE, moments=moments).edit(lm, [case])
        assert relative_error(change_of(emmet), change_of(r_rome)) < 1e-3


def test_the_direction_for_one_key_is_that_of_r_rome() -> None:
    C, key = random_moment(12), torch.arange(1.0, 13)
    whitened = torch.linalg.solve(C.double(), key.double())
    directions = least_squares_directions(factorize(C), key[:, None], 0.0)[:, 0]
    assert relative_error(directions, whitened / (key.double() @ whitened)) < 1e-6


@pytest.mark.parametrize("family", ["gpt-2", "gpt-j", "opt", "llama-3"])
def test_without_relaxation_every_key_is_stored_exactly(family: str, families: Callable[[str], LanguageModel]) -> None:
    lm = families(family)
    patch = Emmet(CONFIG | {"relaxation": "0"}, contexts=GROUPS).edit(lm, REQUESTS)
    assert isinstance(patch, WeightPatch)
    (delta,) = patch.deltas.values()
    assert isinstance(delta, LowRankDelta)
    keys = mean_keys(lm, REQUESTS, GROUPS, 1, 4096).T.double()
    # Dᵀ K = I: each key is mapped to its own residual only.
    torch.testing.assert_close(delta.right @ keys, torch.eye(len(REQUESTS)).double(), rtol=0, atol=1e-5)


def test_a_relaxed_batch_is_memits_least_squares(tiny_llama: LanguageModel) -> None:
    config = CONFIG | {"relaxation": "0.5", "covariance_weight": "6"}
    emmet = Emmet(config, contexts=GROUPS).edit(tiny_llama, REQUESTS)
    single = {key: value for key, value in CONFIG.items() if key != "layer"} | {"layers": "1", "covariance_weight": "3"}
    assert relative_error(change_of(emmet), change_of(Memit(single, contexts=GROUPS).edit(tiny_llama, REQUESTS))) < 1e-9


def test_the_order_of_requests_changes_nothing(tiny_llama: LanguageModel) -> None:
    emmet = Emmet(CONFIG, contexts=GROUPS)
    one, other = (emmet.edit(tiny_llama, [REQUESTS[i] for i in order]) for order in ((0, 1, 2, 3), (3, 1, 0, 2)))
    assert relative_error(change_of(other), change_of(one)) < 1e-3


def test_equal_keys_are_refused_without_relaxation_and_averaged_with_it(tiny_gpt2: LanguageModel) -> None:
    again = EditRequest("again", REQUESTS[0].subject, REQUESTS[0].prompt, "Belton")
    with pytest.raises(AuditError, match="no unique solution with relaxation 0; give a larger relaxation"):
        Emmet(CONFIG | {"relaxation": "0"}, contexts=GROUPS).edit(tiny_gpt2, [*REQUESTS, again])
    patch = Emmet(CONFIG | {"relaxation": "0.1"}, contexts=GROUPS).edit(tiny_gpt2, [*REQUESTS, again])
    assert bool(change_of(patch).isfinite().all())


def test_more_requests_than_key_dimensions_cannot_all_be_exact(tiny_llama: LanguageModel) -> None:
    emmet = Emmet(CONFIG | {"relaxation": "0"}, contexts=GROUPS)
    with pytest.raises(AuditError, match="81 requests cannot all be stored exactly in 80 key dimensions"):
        emmet._directions(tiny_llama, 1, torch.randn(80, 81), emmet.settings(tiny_llama))


def test_the_weights_are_restored_and_the_patch_can_be_saved(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    before = weights_fingerprint(tiny_llama)
    patch = Emmet(CONFIG, contexts=GROUPS).edit(tiny_llama, REQUESTS)
    with patch.applied(tiny_llama):
        assert weights_fingerprint(tiny_llama) != before
    assert weights_fingerprint(tiny_llama) == before
    patch.save(tmp_path)
    assert load_patch(tmp_path).fingerprint == patch.fingerprint


def test_published_settings_and_their_limits() -> None:
    assert EmmetSettings.published[Shapes.GPT2_XL] == {"layer": 17, "covariance_weight": 1000.0}
    assert (EmmetSettings().relaxation, EmmetSettings().clamp_norm_factor) == (0.1, 0.75)
    with pytest.raises(AuditError, match=r"relaxation is -1\.0: give a number of at least 0"):
        EmmetSettings(relaxation=-1.0).check(6)
    with pytest.raises(AuditError, match="layer is 6"):
        EmmetSettings(layer=6).check(6)
