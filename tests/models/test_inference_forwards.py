"""Fast forwards compute the same numbers, use the current weights, and are removed afterwards."""

import pytest
import torch
from torch import Tensor, nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from audit.models.forward_overrides import activations_fused, forward_replaced, forwards_replaced, inference_forwards
from audit.models.language_model import LanguageModel


def test_fused_activations_have_the_same_values_and_gradients(tiny_gpt2: LanguageModel) -> None:
    (activation, *_) = (module for module in tiny_gpt2.model.modules() if isinstance(module, NewGELUActivation))
    x = torch.linspace(-6, 6, 1001, requires_grad=True)

    def answer() -> tuple[Tensor, Tensor]:
        said = activation(x)
        return said.detach(), torch.autograd.grad(said.sum(), x)[0]

    expected = answer()
    with activations_fused(tiny_gpt2):
        found = answer()
        assert "forward" in activation.__dict__
    assert "forward" not in activation.__dict__
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 7, 8, 40])
def test_fast_products_use_the_current_weights_of_the_module(rows: int) -> None:
    model = nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 16, bias=False), Conv1D(9, 16))
    lean = inference_forwards(model)
    hidden = torch.randn(2, rows, 24)
    with torch.no_grad():
        for _ in range(2):
            expected = model(hidden)
            with forwards_replaced(lean):
                torch.testing.assert_close(model(hidden), expected, rtol=1e-4, atol=1e-5)
            model[0].weight.mul_(2)
    assert not any("forward" in module.__dict__ for module in model)


def test_modules_whose_forward_is_already_replaced_are_skipped() -> None:
    model = nn.Sequential(nn.Linear(3, 3), NewGELUActivation())
    lean = {model[0]: lambda x: x + 1, model[1]: lambda x: x + 2}
    with forward_replaced(model[1], lambda x: x + 10):
        with forwards_replaced(lean):
            assert model(torch.zeros(1, 3)).tolist() == [[11, 11, 11]]
        assert model[1](torch.zeros(1)) == 10


def test_subclasses_and_other_dtypes_keep_their_forward() -> None:
    class Other(nn.Linear):
        pass

    assert inference_forwards(nn.Sequential(Other(3, 3), nn.Linear(3, 3).to(torch.bfloat16))) == {}
