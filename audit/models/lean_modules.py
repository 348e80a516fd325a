"""Modules that reach the same numbers in less time, while somebody runs the model.

    with activations_fused(lm):
        ...  # forward and backward passes

    lean = inference_forwards(lm.model)
    with all_shadowed(lean):
        ...  # forward passes without gradients

Each shadows a module's `forward` and takes the shadow away on the way out; hooks run as ever, and a forward that
somebody else has put there is left alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import FastGELUActivation, NewGELUActivation
from transformers.pytorch_utils import Conv1D

from audit.models.detours import shadowed
from audit.models.language_model import LanguageModel

# Below so many rows a product waits for its weights, and the other library starts it sooner.
FEWEST_ROWS = 8


@contextmanager
def activations_fused(lm: LanguageModel) -> Iterator[None]:
    """While inside, GELUs that are spelled out in eight elementwise steps run as the one kernel for the same formula.

    Equal up to rounding; a backward pass keeps one tensor in place of five.
    """
    with ExitStack() as stack:
        for module in lm.model.modules():
            if _is_spelled_out(module) and "forward" not in module.__dict__:
                stack.enter_context(shadowed(module, _gelu))
        yield


@contextmanager
def all_shadowed(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """While inside, the modules run these forwards, except those whose forward somebody else has replaced.

    As `shadowed`, but cheap enough to enter for every call of a model.
    """
    free = [(module.__dict__, forward) for module, forward in forwards.items() if "forward" not in module.__dict__]
    for attributes, forward in free:
        attributes["forward"] = forward
    try:
        yield
    finally:
        for attributes, _ in free:
            del attributes["forward"]


def inference_forwards(model: nn.Module) -> dict[nn.Module, Callable[..., Any]]:
    """The forwards that take less time where no gradients are asked for; equal up to rounding.

    Activations are fused. On processors with AVX-512, float32 products go to oneDNN in place of MKL, which runs them
    with half the vector width on processors that Intel has not made: twice the speed there, about the same elsewhere.
    The choice rests on the machine alone and not on a timing, so that every run on it gives the same answers.
    """
    forwards: dict[nn.Module, Callable[..., Any]] = {}
    for module in model.modules():
        if _is_spelled_out(module):
            forwards[module] = _gelu
        elif _has_faster_product(module):
            forwards[module] = _product_of(module)
    return forwards


def _is_spelled_out(module: nn.Module) -> bool:
    return isinstance(module, NewGELUActivation | FastGELUActivation)


def _gelu(hidden: Tensor) -> Tensor:
    return F.gelu(hidden, approximate="tanh")


def _has_faster_product(module: nn.Module) -> bool:
    """Subclasses are left alone: their forward may say something else."""
    if type(module) not in (nn.Linear, Conv1D) or type(module.weight) is not nn.Parameter:
        return False
    is_plain = module.weight.device.type == "cpu" and module.weight.dtype == torch.float32
    return is_plain and _has_onednn() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def _has_onednn() -> bool:
    """Whether this build of torch has oneDNN's product for plain tensors, and nobody has switched it off."""
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
    return bool(there and torch.backends.mkldnn.enabled)


def _product_of(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """X W^T + b by oneDNN; the weights are read where they are, at every call."""
    product = torch.ops.mkldnn._linear_pointwise.default
    is_transposed = isinstance(module, Conv1D)
    plain = type(module).forward

    def forward(hidden: Tensor) -> Tensor:
        if hidden.dtype != torch.float32 or hidden.numel() < FEWEST_ROWS * hidden.shape[-1]:
            said: Tensor = plain(module, hidden)
            return said
        stored: Tensor = module.weight  # type: ignore[assignment]
        weight = stored.t() if is_transposed else stored  # (outputs, inputs)
        said = product(hidden, weight, module.bias, "none", [], "")
        return said  # (..., outputs)

    return forward
