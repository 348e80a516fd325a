"""Taps: hooks that record module inputs and outputs during a forward pass, and can end it early.

with tapped(lm, len(ids), inputs=["transformer.h.2.mlp.c_proj"], stop="transformer.h.2.mlp.c_proj") as taps:
    run_body(lm, ids, mask, positions)
taps.inputs["transformer.h.2.mlp.c_proj"]  # (rows, columns, inner_size); the layers above did not run
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from audit.models.language_model import LanguageModel


class _PassEnds(Exception):  # noqa: N818 - control flow; `run_body` catches it
    """Raised by the hook of the module `stop` once everything is recorded."""


@dataclass
class Taps:
    """Inputs and outputs of the tapped modules, by module path."""

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)


def hidden_of(output: Any) -> Tensor:
    """The hidden state in a module's output (some blocks return a tuple that begins with it)."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """`output` with its hidden state replaced."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def in_rows(hidden: Tensor, rows: int) -> Tensor:
    """A hidden state as (rows, columns, width); OPT gives its MLP all tokens as one long row."""
    return hidden if hidden.dim() == 3 else hidden.view(rows, -1, hidden.shape[-1])


@contextmanager
def tapped(
    lm: LanguageModel,
    rows: int,
    *,
    inputs: Collection[str] = (),
    outputs: Collection[str] = (),
    stop: str | None = None,
    column: int | None = None,
) -> Iterator[Taps]:
    """Record inputs and outputs of modules, by path. With `stop`, the pass ends once that module is recorded.

    Tensors are (rows, columns, width); with `column`, only that column is kept, (rows, width).
    """
    taps = Taps()

    def recorded(hidden: Tensor) -> Tensor:
        hidden = in_rows(hidden.detach(), rows)
        return hidden if column is None else hidden[:, column].clone()

    with ExitStack() as hooks:
        for path in dict.fromkeys((*inputs, *outputs, *((stop,) if stop else ()))):
            module = lm.model.get_submodule(path)

            def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], path: str = path) -> None:
                if path in inputs:
                    taps.inputs[path] = recorded(args[0] if args else kwargs["hidden_states"])
                if path == stop and path not in outputs:
                    raise _PassEnds

            def after(_: nn.Module, __: Any, output: Any, path: str = path) -> None:
                if path in outputs:
                    # A clone, because some blocks (Falcon's) add to the MLP's output in place.
                    taps.outputs[path] = recorded(hidden_of(output).clone())
                if path == stop:
                    raise _PassEnds

            hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(after).remove)
        yield taps


@torch.no_grad()
def run_body(lm: LanguageModel, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache | None = None) -> None:
    """Run the model without its head on tokens (rows, columns), to its end or to the `stop` of the taps."""
    with suppress(_PassEnds):
        lm.model.base_model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )
