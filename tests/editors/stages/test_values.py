"""The value optimization equals its plain form for any batch, and stops and clamps as the references do."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from audit.editors.stages.keys import Contexts
from audit.editors.stages.value_loss import ValueSettings
from audit.editors.stages.values import OptimizedValues, Site, optimize_values
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from tests.editors.plain import CONTEXTS, REQUESTS, optimize_plainly, relative_error
from tests.editors.tiny_families import FAMILIES

SETTINGS = ValueSettings(steps=6, learning_rate=0.1, weight_decay=0.5, clamp_norm_factor=4.0)


def optimized(
    lm: LanguageModel, settings: ValueSettings = SETTINGS, site: Site = "block", order: tuple[int, ...] = (0, 1, 2, 3)
) -> OptimizedValues:
    return optimize_values(lm, [REQUESTS[index] for index in order], CONTEXTS, layer=1, site=site, settings=settings)


@pytest.mark.parametrize("site", ["mlp", "block"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_equals_the_plain_form_of_each_request(
    family: str, site: Site, families: Callable[[str], LanguageModel]
) -> None:
    lm = families(family)
    values = optimized(lm, site=site, order=(1, 3))
    path = (lm.anatomy.mlps if site == "mlp" else lm.anatomy.blocks)[1]
    for row, case in enumerate((REQUESTS[1], REQUESTS[3])):
        initial, delta, updates = optimize_plainly(lm, case, CONTEXTS, path, SETTINGS)
        assert relative_error(values.initial[row], initial) < 1e-5
        assert relative_error(values.delta[row], delta) < 1e-3
        assert values.updates[row] == updates


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_the_divergence_can_be_taken_after_the_whole_kl_prompt(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    settings = replace(SETTINGS, kl_position="last", kl_factor=1.0)
    values = optimized(lm, settings)
    assert relative_error(values.delta, optimized(lm, replace(settings, kl_position="lookup")).delta) > 1e-3
    for row, case in enumerate(REQUESTS):
        delta = optimize_plainly(lm, case, CONTEXTS, lm.anatomy.blocks[1], settings)[1]
        assert relative_error(values.delta[row], delta) < 1e-3


@pytest.mark.parametrize("budget", [1, 150, 400])
def test_the_token_budget_changes_nothing(tiny_llama: LanguageModel, budget: int) -> None:
    whole, parts = optimized(tiny_llama), optimized(tiny_llama, replace(SETTINGS, token_budget=budget))
    assert relative_error(parts.targets, whole.targets) < 1e-4


def test_the_order_of_requests_changes_nothing(tiny_gpt2: LanguageModel) -> None:
    order = (2, 0, 3, 1)
    assert relative_error(optimized(tiny_gpt2, order=order).targets, optimized(tiny_gpt2).targets[list(order)]) < 1e-4


def test_at_most_one_update_fewer_than_steps(tiny_gpt2: LanguageModel) -> None:
    assert optimized(tiny_gpt2, replace(SETTINGS, steps=3, stop_loss=0.0)).updates == (2, 2, 2, 2)
    assert bool((optimized(tiny_gpt2, replace(SETTINGS, steps=1)).delta == 0).all())


def test_a_finished_request_does_not_change_while_others_continue(tiny_gpt2: LanguageModel) -> None:
    # Between the final losses of two requests, so that they stop at different steps.
    reached = sorted(optimized(tiny_gpt2, replace(SETTINGS, steps=5, stop_loss=0.0)).losses)
    settings = replace(SETTINGS, steps=12, stop_loss=(reached[1] + reached[2]) / 2)
    values = optimized(tiny_gpt2, settings)
    assert len(set(values.updates)) > 1
    for row, case in enumerate(REQUESTS):
        path = tiny_gpt2.anatomy.blocks[1]
        _, delta, updates = optimize_plainly(tiny_gpt2, case, CONTEXTS, path, settings)
        assert values.updates[row] == updates
        torch.testing.assert_close(values.delta[row], delta, rtol=1e-3, atol=1e-6)


def test_delta_is_clamped(tiny_gpt2: LanguageModel) -> None:
    values = optimized(tiny_gpt2, replace(SETTINGS, clamp_norm_factor=0.05))
    radius = 0.05 * values.initial.norm(dim=1)
    torch.testing.assert_close(values.delta.norm(dim=1), radius)


def test_the_last_layer_can_be_perturbed(tiny_llama: LanguageModel) -> None:
    # The last layer's lookup has an effect only if the subject ends the prompt.
    case = EditRequest("e", "Mara Lind", "The painter is {}", "French")
    values = optimize_values(tiny_llama, [case], CONTEXTS, layer=2, site="block", settings=SETTINGS)
    _, delta, _ = optimize_plainly(tiny_llama, case, CONTEXTS, tiny_llama.anatomy.blocks[2], SETTINGS)
    assert relative_error(values.delta[0], delta) < 1e-3


def test_the_model_is_unchanged(tiny_llama: LanguageModel) -> None:
    before = weights_fingerprint(tiny_llama)
    optimized(tiny_llama)
    assert weights_fingerprint(tiny_llama) == before
    for module in tiny_llama.model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and "forward" not in module.__dict__


def test_progress_reaches_the_total(tiny_gpt2: LanguageModel) -> None:
    shares: list[float] = []
    settings = replace(SETTINGS, token_budget=1, steps=2)
    optimize_values(
        tiny_gpt2,
        REQUESTS[:3],
        Contexts((("",),)),
        layer=1,
        site="block",
        settings=settings,
        tick=shares.append,
    )
    assert shares == [1 / 3, 2 / 3, 1.0]


def test_a_loss_that_is_not_finite_names_its_request(tiny_gpt2: LanguageModel) -> None:
    def poisoned(_: object, __: object, output: Tensor) -> Tensor:
        return output * float("nan")

    hook = tiny_gpt2.model.get_output_embeddings().register_forward_hook(poisoned)
    try:
        with pytest.raises(AuditError, match="edit 'a' became nan"):
            optimized(tiny_gpt2)
    finally:
        hook.remove()
