"""Base and edited model after a prompt: divergence, greedy answer, and restored weights."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from audit.editors.methods.controls import Vandal
from audit.engine.generation import Decoding, generate
from audit.measures.locality_contrasts import ANSWER_TOKENS, Contrast, GreedyAnswer, contrast, jensen_shannon
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import DenseDelta, WeightPatch
from tests.measures.test_locality_topics import MARA

PROMPTS = ("Kara Quinwick was born in", "The", "Gira Corley plays the piano; she", "Question: who is it?\nAnswer:")
# No subnormal probabilities: scipy's mean of two of them rounds to zero, and its divergence becomes infinite.
weights = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=4, max_size=4).filter(lambda row: sum(row) > 0.01)


def log(row: list[float]) -> torch.Tensor:
    values = torch.tensor(row, dtype=torch.float64)
    return torch.log(values / values.sum())


@given(weights, weights)
def test_the_divergence_is_scipys_symmetric_and_bounds_the_total_variation(
    one: list[float], other: list[float]
) -> None:
    p, q = log(one), log(other)
    found = jensen_shannon(p, q)
    # scipy gives the square root, in nats, and may round below 0 before it
    reference = np.nan_to_num(jensenshannon(p.exp().numpy(), q.exp().numpy())) ** 2
    assert found == pytest.approx(reference, abs=1e-9)
    assert found == pytest.approx(jensen_shannon(q, p), abs=1e-12)
    variation = float((p.exp() - q.exp()).abs().sum()) / 2
    assert variation**2 / 2 - 1e-9 <= found <= math.log(2) * variation + 1e-9


def test_distributions_that_are_apart_or_not_finite_diverge_by_ln_2() -> None:
    assert jensen_shannon(log([1, 0]), log([0, 1])) == pytest.approx(math.log(2))
    assert jensen_shannon(log([1, 1]), torch.full((2,), torch.nan)) == math.log(2)
    assert jensen_shannon(log([1, 1]), log([1, 1])) == 0


def test_the_answer_is_what_the_engine_writes_and_its_probability_the_product_of_its_tokens(
    tiny_llama: LanguageModel,
) -> None:
    found = contrast(tiny_llama, [WeightPatch({})], PROMPTS)
    texts = generate(tiny_llama, PROMPTS, Decoding(max_new_tokens=ANSWER_TOKENS))
    assert [one.base.answer for one in found] == texts
    assert all(one.base == one.edited and one.divergence == 0 for one in found)
    for one in found:
        assert 0 < one.base.probability <= one.base.likely[0][1]
        assert [p for _, p in one.base.likely] == sorted((p for _, p in one.base.likely), reverse=True)


def test_a_prompt_does_not_depend_on_its_batch(tiny_gpt2: LanguageModel) -> None:
    patch = Vandal().edit(tiny_gpt2, [MARA])
    together = contrast(tiny_gpt2, [patch], PROMPTS)
    for prompt, one in zip(PROMPTS, together, strict=True):
        (alone,) = contrast(tiny_gpt2, [patch], [prompt])
        assert (alone.base.answer, alone.edited.answer) == (one.base.answer, one.edited.answer)
        assert alone.divergence == pytest.approx(one.divergence, abs=1e-5)


def test_the_most_divergent_model_is_reported_and_the_weights_are_restored(
    tiny_llama: LanguageModel,
) -> None:
    before = weights_fingerprint(tiny_llama)
    nothing, noise = WeightPatch({}), Vandal().edit(tiny_llama, [MARA])
    far = contrast(tiny_llama, [noise], PROMPTS)
    assert contrast(tiny_llama, [nothing, noise, nothing], PROMPTS) == far
    assert all(one.divergence > 0 for one in far)
    assert weights_fingerprint(tiny_llama) == before


def test_a_model_with_nan_logits_has_the_largest_divergence(tiny_gpt2: LanguageModel) -> None:
    name = tiny_gpt2.anatomy.weight_name(1)
    broken = DenseDelta(torch.full_like(tiny_gpt2.model.get_parameter(name), torch.nan))
    (found,) = contrast(tiny_gpt2, [WeightPatch({name: broken})], ["The"])
    assert found.divergence == math.log(2)
    assert found.disturbed(0.5)


def said(answer: str, probability: float = 0.9) -> GreedyAnswer:
    return GreedyAnswer(answer, probability, ((answer, probability),))


def test_a_prompt_is_disturbed_by_divergence_or_by_a_changed_sure_answer() -> None:
    assert Contrast("x", 0.2, said("a"), said("a")).disturbed(0.1)
    assert Contrast("x", 0.05, said("a"), said("b")).disturbed(0.1)
    assert not Contrast("x", 0.05, said("a", 0.4), said("b")).disturbed(0.1)
    assert not Contrast("x", 0.1, said("a"), said("a")).disturbed(0.1)


def test_the_message_has_both_answers_and_the_example_line() -> None:
    text = Contrast('Say "it"\nnow', 0.25, said(" yes", 0.75), said(" no", 0.5)).message(0.1)
    assert "divergence: 0.250 nats, above the bound of 0.1" in text
    assert "base:       answer ' yes'; next tokens ' yes' 0.75" in text
    assert "edited:     answer ' no'; next tokens ' no' 0.50" in text
    assert "@example(prompt='Say \"it\"\\nnow')" in text
    assert "base model was sure of its answer (0.90)" in Contrast("x", 0.05, said("a"), said("b")).message(0.1)
