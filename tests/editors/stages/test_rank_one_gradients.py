"""Factors of gradients equal the gradient of autograd, for every row of a batch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from audit.editors.stages.rank_one_gradients import (
    UNLABELED,
    gradient_factors,
    is_transposed,
    map_sizes,
    mlp_maps,
    padded_targets,
    row_losses,
)
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from tests.editors.plain import REQUESTS, relative_error
from tests.editors.tiny_families import FAMILIES
from tests.tiny_models import build_tiny_gpt2

PAIRS = [(request.filled_prompt, request.target_new) for request in REQUESTS]


def autograd(lm: LanguageModel, path: str, pair: tuple[str, str]) -> Tensor:
    """The gradient of the map's weight, seen as (out, in)."""
    weight = lm.model.get_parameter(f"{path}.weight")
    weight.requires_grad_(True)
    try:
        (gradient,) = torch.autograd.grad(row_losses(lm, padded_targets(lm, [pair])).sum(), weight)
    finally:
        weight.requires_grad_(False)
    return gradient.T if is_transposed(lm, path) else gradient


@pytest.mark.parametrize("family", FAMILIES)
def test_the_factors_multiply_to_autograds_gradient(families: Callable[[str], LanguageModel], family: str) -> None:
    lm = families(family)
    maps = mlp_maps(lm, [0, 2])
    found = gradient_factors(lm, padded_targets(lm, PAIRS), maps).factors  # rows of different lengths
    for path in maps:
        factors = found[path]
        for row, pair in enumerate(PAIRS):
            used = factors.used[row]
            product = factors.errors[row, used].T @ factors.inputs[row, used]  # (out, in)
            assert product.shape == map_sizes(lm, path)[::-1]
            assert relative_error(product, autograd(lm, path, pair)) < 1e-4


def test_every_map_of_a_gated_mlp_is_found_and_none_of_attention(
    tiny_gpt2: LanguageModel, tiny_llama: LanguageModel
) -> None:
    assert mlp_maps(tiny_gpt2, [1]) == ("transformer.h.1.mlp.c_fc", "transformer.h.1.mlp.c_proj")
    names = [path.rpartition(".")[2] for path in mlp_maps(tiny_llama, [0])]
    assert names == ["gate_proj", "up_proj", "down_proj"]
    assert [map_sizes(tiny_gpt2, path) for path in mlp_maps(tiny_gpt2, [1])] == [(32, 128), (128, 32)]


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_llama"])
def test_the_padding_side_does_not_matter(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    maps = mlp_maps(lm, [1])
    sides = {side: gradient_factors(lm, padded_targets(lm, PAIRS, side), maps) for side in ("left", "right")}
    torch.testing.assert_close(sides["left"].losses, sides["right"].losses)
    for path in maps:
        left, right = (sides[side].factors[path] for side in ("left", "right"))
        for row in range(len(PAIRS)):
            torch.testing.assert_close(
                left.errors[row, left.used[row]], right.errors[row, right.used[row]], atol=1e-6, rtol=1e-3
            )
            torch.testing.assert_close(
                left.inputs[row, left.used[row]], right.inputs[row, right.used[row]], atol=1e-5, rtol=1e-4
            )


def test_padding_and_tokens_without_an_error_do_not_count(tiny_llama: LanguageModel) -> None:
    rows = padded_targets(tiny_llama, PAIRS)
    last = mlp_maps(tiny_llama, [2])[-1]
    used = gradient_factors(tiny_llama, rows, [last]).factors[last].used
    assert not bool((used & ~rows.mask.bool()).any())
    # Above the last block nothing mixes positions: only tokens that predict the target have an error.
    assert torch.equal(used, rows.labels != UNLABELED)


def test_rows_are_independent(tiny_gpt2: LanguageModel) -> None:
    path = mlp_maps(tiny_gpt2, [0])[0]
    together = gradient_factors(tiny_gpt2, padded_targets(tiny_gpt2, PAIRS), [path])
    for row, pair in enumerate(PAIRS):
        alone = gradient_factors(tiny_gpt2, padded_targets(tiny_gpt2, [pair]), [path])
        factors, single = together.factors[path], alone.factors[path]
        assert float((together.losses[row] - alone.losses[0]).abs()) < 1e-4
        torch.testing.assert_close(
            factors.errors[row, factors.used[row]], single.errors[0, single.used[0]], atol=1e-6, rtol=1e-3
        )


def test_labels_are_the_targets_tokens_and_the_last_of_them_is_no_input(tiny_gpt2: LanguageModel) -> None:
    rows = padded_targets(tiny_gpt2, [("Mara Lind was born in", "New Avaria")])
    labeled = rows.labels[0][rows.labels[0] != UNLABELED]
    assert tiny_gpt2.tokenizer.decode(labeled) == " New Avaria"
    assert rows.ids[0, -len(labeled) + 1 :].tolist() == labeled[:-1].tolist()


def test_errors_do_not_underflow_in_half_precision() -> None:
    """Without a scaled loss, many float16 errors would be zero."""
    half, full = build_tiny_gpt2(dtype=torch.float16), build_tiny_gpt2()
    path = mlp_maps(full, [0])[0]
    found = [gradient_factors(lm, padded_targets(lm, PAIRS), [path]).factors[path] for lm in (half, full)]
    assert found[0].errors.dtype == torch.float32
    products = [factors.errors[0].T @ factors.inputs[0] for factors in found]
    assert relative_error(products[0], products[1]) < 0.05


def test_the_model_is_left_as_it_was(tiny_llama: LanguageModel) -> None:
    before = weights_fingerprint(tiny_llama)
    gradient_factors(tiny_llama, padded_targets(tiny_llama, PAIRS), mlp_maps(tiny_llama, [0, 1]))
    assert weights_fingerprint(tiny_llama) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny_llama.model.modules())
    assert not any(parameter.requires_grad for parameter in tiny_llama.model.parameters())


def test_a_pair_too_long_for_the_context_is_refused(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(AuditError, match="the context of tiny-gpt2 holds"):
        padded_targets(tiny_gpt2, [("word " * 300, "Velden")])
