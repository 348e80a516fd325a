"""Detours that a model's own forward takes for a while, so that no architecture is written a second time.

    with handing_through(lm.model.get_submodule(lm.anatomy.blocks[0]), 0), entered_with(block, hidden):
        lm.model(ids)  # block 0 computes nothing; `block` is given `hidden`

Each lasts as long as its context, and a forward that somebody else has put there comes back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def shadowed(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """While inside, `module` runs `forward`; its hooks run as ever."""
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
def handing_through(block: nn.Module, tuple_length: int) -> Iterator[None]:
    """While inside, `block` returns the hidden state that it is given (in a tuple, where the family wants one)."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden, *[None] * (tuple_length - 1)) if tuple_length else hidden

    with shadowed(block, forward):
        yield


@contextmanager
def entered_with(module: nn.Module, hidden: Tensor) -> Iterator[None]:
    """While inside, a block or norm is given `hidden` in place of the hidden state that comes from below."""

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden}

    hook = module.register_forward_pre_hook(enter, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def tuple_length(output: Any) -> int:
    """What `handing_through` must know: how long a tuple a block returns, 0 for a bare hidden state."""
    return len(output) if isinstance(output, tuple) else 0
