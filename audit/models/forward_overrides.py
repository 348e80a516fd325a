"""Temporary replacements of a module's `forward`: to run part of a model, or to compute the same numbers faster.

    with block_skipped(lm.model.get_submodule(lm.anatomy.blocks[0]), 0), input_replaced(block, hidden):
        lm.model(ids)  # block 0 computes nothing; `block` receives `hidden`

    with activations_fused(lm):
        ...  # forward and backward passes

    with forwards_replaced(inference_forwards(lm.model)):
        ...  # forward passes without gradients

Every override ends with its context. Hooks run as usual, and no architecture has to be implemented a second time.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.activations import FastGELUActivation, NewGELUActivation
from transformers.pytorch_utils import Conv1D

from audit.models.language_model import LanguageModel

# With fewer rows the product is bound by reading the weights, and oneDNN's higher call overhead makes it slower.
FEWEST_ROWS = 8


@contextmanager
def forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside the context, `module` runs `forward`. On exit, the earlier forward is put back."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


@contextmanager
def forwards_replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Inside the context, the modules run these forwards; modules whose forward is already replaced are skipped.

    Like `forward_replaced`, but cheap enough to enter at every call of a model.
    """
    free = [(module.__dict__, forward) for module, forward in forwards.items() if "forward" not in module.__dict__]
    for attributes, forward in free:
        attributes["forward"] = forward
    try:
        yield
    finally:
        for attributes, _ in free:
            del attributes["forward"]


@contextmanager
def block_skipped(block: nn.Module, tuple_length: int) -> Iterator[None]:
    """Inside the context, `block` returns its input hidden state unchanged.

    `tuple_length` is the length of the tuple that the block returns, 0 for a bare tensor; see `tuple_length`.
    """

    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden, *[None] * (tuple_length - 1)) if tuple_length else hidden

    with forward_replaced(block, forward):
        yield


@contextmanager
def input_replaced(module: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Inside the context, a block or norm receives `hidden` instead of the hidden state from the layer below."""

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden}

    hook = module.register_forward_pre_hook(enter, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def head_at(model: PreTrainedModel, rows: Tensor, columns: Tensor) -> Iterator[None]:
    """Inside the context, the head of `model` sees the places (rows[i], columns[i]) only.

    The logits of a call are then (places, vocabulary). The model's own scaling and soft-capping of logits still apply.
    """

    def select(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = args[0]  # (rows, columns, hidden_size)
        return (hidden[rows.to(hidden.device), columns.to(hidden.device)], *args[1:])  # (places, hidden_size)

    head: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def tuple_length(output: Any) -> int:
    """The length of the tuple that a block returned, 0 for a bare hidden state."""
    return len(output) if isinstance(output, tuple) else 0


@contextmanager
def activations_fused(lm: LanguageModel) -> Iterator[None]:
    """Inside the context, GELUs written as eight elementwise operations run as one kernel of the same formula.

    Results are equal up to rounding. The backward pass keeps one tensor instead of five.
    """
    with ExitStack() as stack:
        for module in lm.model.modules():
            if _is_elementwise_gelu(module) and "forward" not in module.__dict__:
                stack.enter_context(forward_replaced(module, _gelu))
        yield


def inference_forwards(model: nn.Module) -> dict[nn.Module, Callable[..., Any]]:
    """Faster forwards for passes without gradients, by module; results are equal up to rounding.

    Activations are fused. On CPUs with AVX-512, float32 products use oneDNN instead of MKL. MKL uses half the vector
    width on CPUs not made by Intel, where oneDNN is twice as fast; elsewhere both are about equal. The choice depends
    on hardware and build of torch, never on a timing, so every run on a machine computes the same numbers.
    """
    forwards: dict[nn.Module, Callable[..., Any]] = {}
    for module in model.modules():
        if _is_elementwise_gelu(module):
            forwards[module] = _gelu
        elif _has_faster_product(module):
            forwards[module] = _onednn_product(module)
    return forwards


def _is_elementwise_gelu(module: nn.Module) -> bool:
    return isinstance(module, NewGELUActivation | FastGELUActivation)


def _gelu(hidden: Tensor) -> Tensor:
    return F.gelu(hidden, approximate="tanh")


def _has_faster_product(module: nn.Module) -> bool:
    """Whether oneDNN can compute this module. Exact types only, since a subclass may compute something else."""
    if type(module) not in (nn.Linear, Conv1D) or type(module.weight) is not nn.Parameter:
        return False
    is_plain = module.weight.device.type == "cpu" and module.weight.dtype == torch.float32
    return is_plain and _has_onednn() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def _has_onednn() -> bool:
    """Whether this build of torch has oneDNN's product for plain tensors, and oneDNN is enabled."""
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
    return bool(there and torch.backends.mkldnn.enabled)


def _onednn_product(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """A forward that computes X Wᵀ + b by oneDNN. It reads the weights at every call, so changes take effect."""
    product = torch.ops.mkldnn._linear_pointwise.default
    is_transposed = isinstance(module, Conv1D)
    plain = type(module).forward

    def forward(hidden: Tensor) -> Tensor:
        output: Tensor
        if hidden.dtype != torch.float32 or hidden.numel() < FEWEST_ROWS * hidden.shape[-1]:
            output = plain(module, hidden)
            return output
        stored: Tensor = module.weight  # type: ignore[assignment]
        weight = stored.t() if is_transposed else stored  # (outputs, inputs)
        output = product(hidden, weight, module.bias, "none", [], "")
        return output  # (..., outputs)

    return forward
