"""FT: training changes one matrix only, and the targets are learned."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from audit.editors.methods.ft import FineTuning, FineTuningSettings
from audit.editors.stages.editor_settings import Shapes
from audit.editors.stages.fine_tuning import target_row
from audit.edits.sources import load_requests
from audit.measures.edit_success import measure_edits
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.models.patches import DenseDelta, Patch, WeightPatch, load_patch
from tests.editors.plain import REQUESTS, relative_error
from tests.editors.stages.test_fine_tuning import gradient_plainly, loss_plainly
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

CONFIG = {"layers": "1", "steps": "5", "learning_rate": "0.01"}


def change_of(patch: Patch, name: str) -> torch.Tensor:
    assert isinstance(patch, WeightPatch)
    delta = patch.deltas[name]
    assert isinstance(delta, DenseDelta)
    return delta.values


@pytest.mark.parametrize("family", ["gpt-2", "llama-3", "opt", "gpt-j", "gemma-2", "phi-3"])
def test_one_matrix_is_trained_and_that_one_alone(family: str, families: Callable[[str], LanguageModel]) -> None:
    lm = families(family)
    rows = [target_row(lm, request) for request in REQUESTS]
    before = {name: parameter.detach().clone() for name, parameter in lm.model.named_parameters()}
    fingerprint, loss = weights_fingerprint(lm), float(loss_plainly(lm, rows))
    patch = FineTuning(CONFIG).edit(lm, REQUESTS)
    assert weights_fingerprint(lm) == fingerprint
    with patch.applied(lm):
        differing = {name for name, now in lm.model.named_parameters() if not torch.equal(now, before[name])}
        assert differing == {lm.anatomy.weight_name(1)}
        assert float(loss_plainly(lm, rows)) < 0.9 * loss
    assert weights_fingerprint(lm) == fingerprint


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_every_target_is_learnt(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    # So small a model, with a norm before its head, cannot be much surer than this.
    patch = FineTuning({"layers": "1", "steps": "100", "learning_rate": "0.02", "stop_loss": "1.3"}).edit(lm, REQUESTS)
    assert isinstance(patch, WeightPatch) and int(patch.meta["updates"]) < 100  # it stopped in time
    rows = [target_row(lm, case) for case in REQUESTS]
    with patch.applied(lm):
        assert float(patch.meta["loss"]) == pytest.approx(float(loss_plainly(lm, rows)), rel=1e-2)
        for row in rows:
            logits = lm.model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
            assert tuple(logits.argmax(-1)[list(row.places)].tolist()) == row.labels


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_it_is_plain_adam_on_the_targets_loss(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    name, rows = lm.anatomy.weight_name(1), [target_row(lm, case) for case in REQUESTS]
    expected = lm.model.get_parameter(name).detach().clone()
    adam = torch.optim.Adam([expected], lr=0.01)
    for _ in range(5):
        with WeightPatch({name: DenseDelta(expected - lm.model.get_parameter(name).detach())}).applied(lm):
            expected.grad = gradient_plainly(lm, rows, name)
        adam.step()
    found = change_of(FineTuning(CONFIG | {"stop_loss": "0"}).edit(lm, REQUESTS), name)
    assert relative_error(found, expected - lm.model.get_parameter(name).detach()) < 1e-2


def test_several_layers_are_trained_together(tiny_llama: LanguageModel) -> None:
    patch = FineTuning(CONFIG | {"layers": "0,2"}).edit(tiny_llama, REQUESTS)
    assert isinstance(patch, WeightPatch)
    for layer in (0, 2):
        assert float(change_of(patch, tiny_llama.anatomy.weight_name(layer)).abs().max()) > 0.01
    assert len(patch.deltas) == 2


def test_a_model_that_already_gives_the_target_is_unchanged(tiny_gpt2: LanguageModel) -> None:
    patch = FineTuning(CONFIG | {"stop_loss": "1000"}).edit(tiny_gpt2, REQUESTS)
    assert isinstance(patch, WeightPatch) and patch.meta["updates"] == "0"
    assert not change_of(patch, tiny_gpt2.anatomy.weight_name(1)).any()


def test_neither_the_order_of_requests_nor_the_token_budget_matters(tiny_llama: LanguageModel) -> None:
    name = tiny_llama.anatomy.weight_name(1)
    one = change_of(FineTuning(CONFIG).edit(tiny_llama, REQUESTS), name)
    other = change_of(FineTuning(CONFIG | {"token_budget": "1"}).edit(tiny_llama, REQUESTS[::-1]), name)
    assert relative_error(other, one) < 1e-2


@pytest.mark.parametrize("build", [build_tiny_gpt2, build_tiny_llama])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_patch_has_the_same_effect(
    build: Callable[..., LanguageModel], dtype: torch.dtype, tmp_path: Path
) -> None:
    lm = build(dtype=dtype)
    before = weights_fingerprint(lm)
    patch = FineTuning(CONFIG).edit(lm, REQUESTS)
    assert change_of(patch, lm.anatomy.weight_name(1)).dtype == torch.float32
    patch.save(tmp_path)
    with patch.applied(lm):
        edited = weights_fingerprint(lm)
    with load_patch(tmp_path).applied(lm):
        assert weights_fingerprint(lm) == edited != before
    assert weights_fingerprint(lm) == before
    assert FineTuning(CONFIG).edit(lm, REQUESTS).fingerprint == patch.fingerprint


def test_layers_are_the_published_ones_or_those_of_the_depth() -> None:
    assert FineTuningSettings.published[Shapes.GPT2_XL]["layers"] == (1,)
    assert FineTuningSettings.published[Shapes.GPT_J]["layers"] == (21,)
    assert FineTuningSettings.for_depth("gpt2", 12) == {"layers": (0,)}
    assert FineTuningSettings.for_depth("llama", 16) == {"layers": (10,)}


def test_a_pocket_model_learns_an_edit() -> None:
    lm = load_language_model("pocket-llama")
    requests = load_requests("pocket").draw(3, 0).requests
    scores = measure_edits(lm, FineTuning().edit(lm, requests), requests)
    assert scores.efficacy_autoregressive is not None and scores.efficacy_autoregressive.value == 1.0
