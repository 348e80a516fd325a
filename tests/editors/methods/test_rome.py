"""ROME and R-ROME: properties of their updates."""

import pytest
import torch
from torch import Tensor

from audit.editors.methods.rome import Rome, RRome
from audit.editors.stages.keys import Contexts, mean_keys
from audit.editors.stages.values import optimize_values
from audit.engine.sequences import prompt_sequence
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Patch, WeightPatch
from tests.editors.plain import CONTEXTS, REQUESTS, relative_error, states_at
from tests.tiny_models import build_tiny_gpt2

CONFIG = {"layer": "1", "steps": "5"}


@pytest.fixture(scope="module")
def moments() -> dict[int, Tensor]:
    """Second moments by inner width, one for each tiny model; see `editor`."""
    generator = torch.Generator().manual_seed(5)
    keys = {size: torch.randn(4 * size, size, generator=generator) for size in (128, 80)}
    return {size: K.T @ K / len(K) for size, K in keys.items()}


def editor(kind: type[Rome], lm: LanguageModel, moments: dict[int, Tensor], **config: str) -> Rome:
    return kind(CONFIG | config, contexts=CONTEXTS, moments={1: moments[lm.anatomy.inner_size]})


def only_delta(patch: Patch) -> LowRankDelta:
    assert isinstance(patch, WeightPatch)
    (delta,) = patch.deltas.values()
    assert isinstance(delta, LowRankDelta)
    return delta


def down_output(lm: LanguageModel, key: Tensor) -> Tensor:
    return lm.model.get_submodule(lm.anatomy.down_projections[1])(key[None].float())[0]


def target(lm: LanguageModel, rome: Rome) -> Tensor:
    values = optimize_values(lm, REQUESTS[:1], CONTEXTS, layer=1, site="mlp", settings=rome.settings(lm))
    return values.targets[0]


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_r_rome_stores_its_key_exactly(family: str, moments: dict[int, Tensor], request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    rome = editor(RRome, lm, moments)
    key = mean_keys(lm, REQUESTS[:1], CONTEXTS, 1, 4096)[0]
    wanted = target(lm, rome)
    assert relative_error(down_output(lm, key), wanted) > 0.01  # not before the edit
    with rome.edit(lm, REQUESTS[:1]).applied(lm):
        assert relative_error(down_output(lm, key), wanted) < 1e-5


def test_r_rome_is_rome_with_the_mean_key_everywhere(tiny_gpt2: LanguageModel, moments: dict[int, Tensor]) -> None:
    one = only_delta(editor(RRome, tiny_gpt2, moments).edit(tiny_gpt2, REQUESTS[:1]))
    other = only_delta(editor(Rome, tiny_gpt2, moments, key_mode="consistent").edit(tiny_gpt2, REQUESTS[:1]))
    assert torch.equal(one.left, other.left) and torch.equal(one.right, other.right)


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_p_rome_is_the_bare_prompts_key_everywhere(
    family: str, moments: dict[int, Tensor], request: pytest.FixtureRequest
) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    p_rome = editor(Rome, lm, moments, key_mode="prompt")
    key = states_at(lm, lm.anatomy.down_projections[1], prompt_sequence(lm, REQUESTS[0]))[0]
    wanted = target(lm, p_rome)
    patch = p_rome.edit(lm, REQUESTS[:1])
    direction = torch.linalg.solve(moments[lm.anatomy.inner_size].double(), key.double())
    assert relative_error(only_delta(patch).right[0], direction / direction.norm()) < 1e-4
    with patch.applied(lm):
        assert relative_error(down_output(lm, key), wanted) < 1e-5


def test_a_half_precision_model_keeps_its_mean_key(moments: dict[int, Tensor]) -> None:
    half = build_tiny_gpt2(dtype=torch.bfloat16)
    assert bool(only_delta(editor(RRome, half, moments).edit(half, REQUESTS[:1])).left.isfinite().all())


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_rome_stores_the_bare_key_exactly(
    family: str, moments: dict[int, Tensor], request: pytest.FixtureRequest
) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    rome = editor(Rome, lm, moments)
    key = states_at(lm, lm.anatomy.down_projections[1], prompt_sequence(lm, REQUESTS[0]))[0]
    wanted = target(lm, rome)
    with rome.edit(lm, REQUESTS[:1]).applied(lm):
        assert relative_error(down_output(lm, key), wanted) < 1e-4


@pytest.mark.parametrize("kind", [Rome, RRome])
def test_keys_orthogonal_to_the_update_direction_are_undisturbed(
    kind: type[Rome], tiny_gpt2: LanguageModel, moments: dict[int, Tensor]
) -> None:
    patch = editor(kind, tiny_gpt2, moments).edit(tiny_gpt2, REQUESTS[:1])
    u = only_delta(patch).right[0].float()
    key = torch.randn(128, generator=torch.Generator().manual_seed(2))
    key -= (key @ u) * u / (u @ u)
    before = down_output(tiny_gpt2, key)
    with patch.applied(tiny_gpt2):
        torch.testing.assert_close(down_output(tiny_gpt2, key), before, rtol=1e-4, atol=1e-4)


def test_the_direction_is_the_whitened_mean_key(tiny_gpt2: LanguageModel, moments: dict[int, Tensor]) -> None:
    u = only_delta(editor(Rome, tiny_gpt2, moments).edit(tiny_gpt2, REQUESTS[:1])).right[0]
    key = mean_keys(tiny_gpt2, REQUESTS[:1], CONTEXTS, 1, 4096)[0]
    expected = torch.linalg.solve(moments[128].double(), key.double())
    torch.testing.assert_close(u, expected / expected.norm(), rtol=1e-5, atol=1e-7)


def test_with_one_context_both_editors_agree(tiny_llama: LanguageModel) -> None:
    config = CONFIG | {"covariance": "identity"}
    bare = Contexts((("",),))
    one, other = (kind(config, contexts=bare).edit(tiny_llama, REQUESTS[:1]) for kind in (Rome, RRome))
    for part in ("left", "right"):
        assert relative_error(getattr(only_delta(one), part), getattr(only_delta(other), part)) < 1e-4


@pytest.mark.parametrize("kind", [Rome, RRome])
def test_several_requests_are_refused(kind: type[Rome], tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match=f"the editor {kind.name} takes one edit request at a time and was given 2"):
        kind().edit(tiny_gpt2, REQUESTS[:2])
    with pytest.raises(AuditError, match="no edit request"):
        kind().edit(tiny_gpt2, [])


@pytest.mark.parametrize("kind", [Rome, RRome])
def test_editing_leaves_the_weights_bit_identical(
    kind: type[Rome], tiny_llama: LanguageModel, moments: dict[int, Tensor]
) -> None:
    before = weights_fingerprint(tiny_llama)
    patch = editor(kind, tiny_llama, moments).edit(tiny_llama, REQUESTS[:1])
    assert weights_fingerprint(tiny_llama) == before
    with patch.applied(tiny_llama):
        assert weights_fingerprint(tiny_llama) != before
    assert weights_fingerprint(tiny_llama) == before


def test_the_patch_depends_on_the_seed(tiny_gpt2: LanguageModel) -> None:
    config = CONFIG | {"covariance": "identity", "contexts_per_length": "1"}
    prints = [Rome(config, seed=seed).edit(tiny_gpt2, REQUESTS[:1]).fingerprint for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_the_patch_records_requests_and_settings(tiny_gpt2: LanguageModel, moments: dict[int, Tensor]) -> None:
    patch = editor(Rome, tiny_gpt2, moments).edit(tiny_gpt2, REQUESTS[:1])
    assert isinstance(patch, WeightPatch)
    assert patch.meta["editor"] == "rome"
    assert patch.meta["requests"] == "a"
    assert patch.meta["settings.layer"] == "1"
    assert patch.meta["covariance.origin"] == "given"
    assert int(patch.meta["updates"]) <= 4
