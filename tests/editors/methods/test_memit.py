"""MEMIT: what its updates must satisfy."""

import pytest
import torch
from torch import Tensor

from audit.editors.methods.memit import Memit
from audit.editors.stages.contexts import Contexts
from audit.editors.stages.keys import context_keys
from audit.editors.stages.values import optimize_values
from audit.engine.sequences import prompt_sequence
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Patch, WeightPatch
from tests.editors.plain import GROUPS, REQUESTS, relative_error, states_at

CONFIG = {"layers": "0,1", "steps": "5", "covariance": "identity", "clamp_norm_factor": "2"}


def deltas_of(patch: Patch) -> dict[str, Tensor]:
    assert isinstance(patch, WeightPatch)
    factors = {name: delta for name, delta in patch.deltas.items() if isinstance(delta, LowRankDelta)}
    assert factors.keys() == patch.deltas.keys()
    return {name: delta.left @ delta.right for name, delta in factors.items()}


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_a_light_covariance_moves_the_bare_prompts_all_the_way(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    memit = Memit(CONFIG | {"covariance_weight": "1e-6"}, contexts=Contexts((("",),)))
    values = optimize_values(lm, REQUESTS, memit.contexts(lm), layer=1, site="block", settings=memit.settings(lm))
    with memit.edit(lm, REQUESTS).applied(lm):
        for row, case in enumerate(REQUESTS):
            reached = states_at(lm, lm.anatomy.blocks[1], prompt_sequence(lm, case))[1]
            assert relative_error(reached - values.initial[row], values.delta[row]) < 1e-2


def test_a_heavy_covariance_moves_nothing(tiny_gpt2: LanguageModel) -> None:
    changes = deltas_of(Memit(CONFIG | {"covariance_weight": "1e12"}, contexts=GROUPS).edit(tiny_gpt2, REQUESTS))
    assert max(float(change.abs().max()) for change in changes.values()) < 1e-6


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_the_first_layer_is_the_papers_least_squares(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    memit = Memit(CONFIG | {"covariance_weight": "3"}, contexts=GROUPS)
    changes = deltas_of(memit.edit(lm, REQUESTS))
    values = optimize_values(lm, REQUESTS, GROUPS, layer=1, site="block", settings=memit.settings(lm))
    K = context_keys(lm, REQUESTS, GROUPS, 0, 4096).double().T
    R = values.delta.double().T / 2  # the first of two layers takes half of what there is to move
    expected = R @ torch.linalg.solve(3 * torch.eye(len(K)).double() + K @ K.T, K).T
    assert relative_error(changes[lm.anatomy.weight_name(0)], expected) < 1e-3


def test_the_order_of_requests_changes_nothing(tiny_llama: LanguageModel) -> None:
    memit = Memit(CONFIG | {"covariance_weight": "10"}, contexts=GROUPS)
    one = deltas_of(memit.edit(tiny_llama, REQUESTS))
    other = deltas_of(memit.edit(tiny_llama, [REQUESTS[index] for index in (3, 1, 0, 2)]))
    for name, change in one.items():
        assert relative_error(other[name], change) < 1e-3


def test_later_layers_are_written_on_the_edited_model(tiny_gpt2: LanguageModel) -> None:
    """Writing layer 0 alone, then layer 1 on the model so edited, is one edit of both."""
    memit = Memit(CONFIG | {"covariance_weight": "1"}, contexts=GROUPS)
    changes = deltas_of(memit.edit(tiny_gpt2, REQUESTS))
    values = optimize_values(tiny_gpt2, REQUESTS, GROUPS, layer=1, site="block", settings=memit.settings(tiny_gpt2))
    first, second = (tiny_gpt2.anatomy.weight_name(layer) for layer in (0, 1))
    half_way = WeightPatch({first: LowRankDelta(changes[first], torch.eye(128).double())}, frozenset({first}))
    with half_way.applied(tiny_gpt2):
        K = context_keys(tiny_gpt2, REQUESTS, GROUPS, 1, 4096).double().T
        block = tiny_gpt2.anatomy.blocks[1]
        current = torch.stack([states_at(tiny_gpt2, block, prompt_sequence(tiny_gpt2, case))[1] for case in REQUESTS])
    R = (values.targets - current).double().T  # the last layer takes all that remains
    expected = R @ torch.linalg.solve(torch.eye(128).double() + K @ K.T, K).T
    assert relative_error(changes[second], expected) < 1e-3


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_editing_leaves_the_weights_bit_identical(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    before = weights_fingerprint(lm)
    patch = Memit(CONFIG, contexts=GROUPS).edit(lm, REQUESTS)
    assert weights_fingerprint(lm) == before
    with patch.applied(lm):
        assert weights_fingerprint(lm) != before
    assert weights_fingerprint(lm) == before


def test_an_interrupted_edit_leaves_the_weights_bit_identical(
    tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights_fingerprint(tiny_gpt2)
    memit = Memit(CONFIG, contexts=GROUPS)
    written = []

    def interrupted(*_: object) -> Tensor:
        if weights_fingerprint(tiny_gpt2) != before:
            written.append(True)
            raise KeyboardInterrupt
        return states_at(tiny_gpt2, tiny_gpt2.anatomy.blocks[1], prompt_sequence(tiny_gpt2, REQUESTS[0]))[1][None]

    monkeypatch.setattr(memit, "_current", interrupted)
    with pytest.raises(KeyboardInterrupt):
        memit.edit(tiny_gpt2, REQUESTS[:1])
    assert written and weights_fingerprint(tiny_gpt2) == before


def test_half_precision_models_are_edited_in_float32(tiny_gpt2: LanguageModel) -> None:
    from tests.tiny_models import build_tiny_gpt2

    half = build_tiny_gpt2(dtype=torch.bfloat16)
    memit = Memit(CONFIG | {"covariance_weight": "10"}, contexts=GROUPS)
    rough, fine = deltas_of(memit.edit(half, REQUESTS)), deltas_of(memit.edit(tiny_gpt2, REQUESTS))
    for name, change in rough.items():
        assert bool(change.isfinite().all())
        assert torch.nn.functional.cosine_similarity(change.flatten(), fine[name].flatten(), dim=0) > 0.8
