"""The controls: the vandal is seeded, writes one matrix, and is strong; identity changes nothing."""

from collections.abc import Callable

import pytest
import torch

from audit.editors.methods.controls import Identity, Vandal
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import DenseDelta, WeightPatch
from tests.editors.plain import REQUESTS


def noise(lm: LanguageModel, seed: int = 0, **config: str) -> dict[str, torch.Tensor]:
    patch = Vandal(config, seed).edit(lm, REQUESTS)
    assert isinstance(patch, WeightPatch)
    return {name: delta.values for name, delta in patch.deltas.items() if isinstance(delta, DenseDelta)}


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_noise_is_relative_to_the_weight_and_in_one_matrix(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    ((name, values),) = noise(lm, layer="2", scale="3").items()
    assert name == lm.anatomy.weight_name(2)
    weight = lm.model.get_parameter(name)
    assert values.shape == weight.shape
    assert float(values.std() / weight.std()) == pytest.approx(3, rel=0.1)
    assert list(noise(lm)) == [lm.anatomy.weight_name(1)]  # the middle of three


def test_a_model_that_rescales_the_outputs_of_its_mlps_gets_noise_in_all(
    families: Callable[[str], LanguageModel],
) -> None:
    lm = families("gemma-3")
    found = noise(lm, scale="3")
    assert list(found) == [lm.anatomy.weight_name(layer) for layer in range(lm.anatomy.depth)]
    assert not torch.equal(*list(found.values())[:2])
    assert list(noise(lm, layer="1")) == [lm.anatomy.weight_name(1)]


def test_the_noise_depends_on_the_seed(tiny_gpt2: LanguageModel) -> None:
    one, same, other = (next(iter(noise(tiny_gpt2, seed).values())) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_weights_are_restored(tiny_llama: LanguageModel) -> None:
    before = weights_fingerprint(tiny_llama)
    with Vandal().edit(tiny_llama, REQUESTS).applied(tiny_llama):
        assert weights_fingerprint(tiny_llama) != before
    assert weights_fingerprint(tiny_llama) == before


def test_the_patch_of_identity_is_empty(tiny_gpt2: LanguageModel) -> None:
    calls: list[tuple[int, int]] = []
    patch = Identity().edit(tiny_gpt2, REQUESTS, lambda done, total: calls.append((done, total)))
    assert isinstance(patch, WeightPatch) and not patch.deltas
    assert calls == [(4, 4)]
    before = weights_fingerprint(tiny_gpt2)
    with patch.applied(tiny_gpt2):
        assert weights_fingerprint(tiny_gpt2) == before


def test_identity_has_no_settings() -> None:
    with pytest.raises(AuditError, match="it has no settings"):
        Identity({"scale": "1"})
