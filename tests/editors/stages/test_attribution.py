"""Integrated gradients of neurons: complete, and equal to step-by-step gradients of the whole model."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.editors.stages.attribution import AnsweredPrompt, Place, attribute_neurons, both_ends, midpoints
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from tests.editors.plain_attribution import activation_at, attribute_plainly, probabilities
from tests.editors.tiny_families import FAMILIES
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

PROMPTS = (
    AnsweredPrompt((5, 61, 17, 230, 44, 9), (33,)),
    AnsweredPrompt((7, 8, 101, 12), (45, 300, 45)),
    AnsweredPrompt((19,), (2,)),
)
BUDGET = 4096


@pytest.mark.parametrize("place", ["value", "key"])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_column_of_the_upper_blocks_gives_what_the_whole_model_gives(
    family: str, place: Place, families: Callable[[str], LanguageModel]
) -> None:
    lm = families(family)
    alphas = midpoints(3)
    found = attribute_neurons(lm, PROMPTS[:2], place=place, alphas=alphas, token_budget=BUDGET)
    for scores, prompt in zip(found, PROMPTS, strict=False):
        expected = attribute_plainly(lm, prompt, place, alphas)
        assert float(expected.abs().max()) > 1e-6
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("place", ["value", "key"])
@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_the_scores_of_a_block_sum_to_what_its_neurons_add_to_the_probability(
    family: str, place: Place, request: pytest.FixtureRequest
) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    (scores,) = attribute_neurons(lm, PROMPTS[:1], place=place, alphas=midpoints(400), token_budget=BUDGET)
    ids, (answer,) = PROMPTS[0].ids, PROMPTS[0].answers
    for layer, total in enumerate(scores.sum(1).tolist()):
        activation = activation_at(lm, ids, layer, place)
        ends = torch.stack([torch.zeros_like(activation), activation])
        none, all_of_it = probabilities(lm, ids, layer, place, ends)[:, answer].tolist()
        assert abs(all_of_it - none) > 1e-5
        assert total == pytest.approx(all_of_it - none, rel=1e-3, abs=1e-7)


def test_a_prompt_of_one_token_has_no_earlier_columns(tiny_gpt2: LanguageModel) -> None:
    (scores,) = attribute_neurons(tiny_gpt2, PROMPTS[2:], place="value", alphas=midpoints(3), token_budget=BUDGET)
    expected = attribute_plainly(tiny_gpt2, PROMPTS[2], "value", midpoints(3))
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@settings(max_examples=15)
@given(budget=st.integers(1, 200), steps=st.integers(1, 7), order=st.permutations(range(3)))
def test_neither_budget_nor_neighbors_change_the_scores(budget: int, steps: int, order: list[int]) -> None:
    lm, alphas = TINY, both_ends(steps)
    alone = [attribute_neurons(lm, [PROMPTS[i]], place="key", alphas=alphas, token_budget=BUDGET)[0] for i in order]
    together = attribute_neurons(lm, [PROMPTS[i] for i in order], place="key", alphas=alphas, token_budget=budget)
    for one, beside_others in zip(alone, together, strict=True):
        torch.testing.assert_close(beside_others, one, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


TINY = build_tiny_gpt2(layers=2)


def test_shares_cover_the_interval_from_0_to_1() -> None:
    torch.testing.assert_close(midpoints(4), torch.tensor([0.125, 0.375, 0.625, 0.875]))
    torch.testing.assert_close(both_ends(5), torch.tensor([0, 0.25, 0.5, 0.75, 1]))
    assert both_ends(1).tolist() == [0]


@pytest.mark.parametrize("place", ["value", "key"])
def test_half_precision_models_are_attributed_in_float32(place: Place, tiny_llama: LanguageModel) -> None:
    half = build_tiny_llama(dtype=torch.bfloat16)
    rough = attribute_neurons(half, PROMPTS, place=place, alphas=midpoints(8), token_budget=BUDGET)
    fine = attribute_neurons(tiny_llama, PROMPTS, place=place, alphas=midpoints(8), token_budget=BUDGET)
    assert rough.dtype == torch.float32 and bool(rough.isfinite().all())
    assert torch.nn.functional.cosine_similarity(rough[0].flatten(), fine[0].flatten(), dim=0) > 0.9


def test_the_model_is_unchanged_and_no_hook_is_left(tiny_gpt2: LanguageModel) -> None:
    before = weights_fingerprint(tiny_gpt2)
    attribute_neurons(tiny_gpt2, PROMPTS, place="key", alphas=midpoints(2), token_budget=BUDGET)
    assert weights_fingerprint(tiny_gpt2) == before
    modules = list(tiny_gpt2.model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    assert not any("forward" in module.__dict__ for module in modules)
