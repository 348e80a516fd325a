"""Logits of fixed rows from a model with attachments, and the input and output of one of its modules."""

import torch
from torch import Tensor, nn

from audit.models.language_model import LanguageModel

IDS = torch.tensor([[5, 17, 300, 41, 9, 77], [8, 120, 33, 250, 61, 4]])


@torch.no_grad()
def all_logits(lm: LanguageModel) -> Tensor:
    """(rows, columns, vocabulary)"""
    logits: Tensor = lm.model(input_ids=IDS).logits
    return logits


def spread_inputs(lm: LanguageModel, module: str) -> tuple[Tensor, Tensor]:
    """What `module` sees and says, after whatever is attached to it: (rows, columns, width) each."""
    seen: list[Tensor] = []

    def see(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.extend(x.view(*IDS.shape, -1).clone() for x in (args[0], output))

    hook = lm.model.get_submodule(module).register_forward_hook(see)
    try:
        all_logits(lm)
    finally:
        hook.remove()
    return seen[0], seen[1]
