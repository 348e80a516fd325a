"""Modules that do less work for the same numbers while an editor runs the model.

with only_at(lm.model.get_submodule(lm.anatomy.mlps[-1]), rows, at_rows, at_columns):
    ...  # forward and backward passes
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from audit.engine.taps import in_rows
from audit.models.detours import shadowed


@contextmanager
def only_at(module: nn.Module, rows: int, at_rows: Tensor, at_columns: Tensor) -> Iterator[None]:
    """While inside, an MLP computes nothing but the places (at_rows, at_columns) and says 0 everywhere else.

    For MLPs above which nothing mixes tokens any more, where only those places are read.
    """
    forward = module.forward

    def sparse(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        laid = in_rows(hidden, rows)  # (rows, columns, width)
        places = at_rows.to(laid.device), at_columns.to(laid.device)
        said: Tensor = forward(laid[places].view(*(1,) * (hidden.dim() - 2), -1, laid.shape[-1]), *args, **kwargs)
        everywhere = said.new_zeros(*laid.shape[:2], said.shape[-1])
        return everywhere.index_put(places, said.flatten(0, -2)).view(*hidden.shape[:-1], said.shape[-1])

    with shadowed(module, sparse):
        yield
