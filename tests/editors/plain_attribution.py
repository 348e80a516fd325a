"""Integrated gradients in the plainest form: whole model, forward and backward, one block and step at a time."""

from typing import Any

import torch
from torch import Tensor

from audit.editors.stages.attribution import AnsweredPrompt, Place
from audit.editors.stages.rank_one_gradients import mlp_maps
from audit.models.language_model import LanguageModel


def scaled_path(lm: LanguageModel, layer: int, place: Place) -> str:
    return lm.anatomy.down_projections[layer] if place == "value" else mlp_maps(lm, [layer])[0]


def activation_at(lm: LanguageModel, ids: tuple[int, ...], layer: int, place: Place) -> Tensor:
    """What the neurons of a block are at the last of `ids`, (inner,)."""
    seen: list[Tensor] = []

    def see(_: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
        hidden = args[0] if place == "value" else output[..., : lm.anatomy.inner_size]
        seen.append(hidden.detach().reshape(-1, lm.anatomy.inner_size)[-1].float())

    hook = lm.model.get_submodule(scaled_path(lm, layer, place)).register_forward_hook(see)
    try:
        with torch.no_grad():
            lm.model(input_ids=torch.tensor([ids], device=lm.device), use_cache=False)
    finally:
        hook.remove()
    return seen[0]


def probabilities(lm: LanguageModel, ids: tuple[int, ...], layer: int, place: Place, neurons: Tensor) -> Tensor:
    """Next-token probabilities (rows, vocabulary) with a block's neurons held at `neurons` (rows, inner) at the end."""
    rows, inner = neurons.shape

    def held(hidden: Tensor) -> Tensor:
        by_row = hidden.view(rows, -1, hidden.shape[-1])
        last = torch.cat([neurons.to(hidden.dtype), by_row[:, -1, inner:]], dim=-1)
        return torch.cat([by_row[:, :-1], last[:, None]], dim=1).view(hidden.shape)

    module = lm.model.get_submodule(scaled_path(lm, layer, place))
    if place == "value":
        hook = module.register_forward_pre_hook(lambda _, args: (held(args[0]), *args[1:]))
    else:
        hook = module.register_forward_hook(lambda _, args, output: held(output))
    try:
        logits = lm.model(input_ids=torch.tensor([ids] * rows, device=lm.device), use_cache=False).logits
    finally:
        hook.remove()
    return logits[:, -1].float().softmax(-1)


def attribute_plainly(
    lm: LanguageModel, prompt: AnsweredPrompt, place: Place, alphas: Tensor, steps_together: int = 1
) -> Tensor:
    """Attr of every neuron, (depth, inner), summed over the prompt's answers; `steps_together` steps make a batch."""
    scores = torch.zeros(lm.anatomy.depth, lm.anatomy.inner_size)
    for layer in range(lm.anatomy.depth):
        for answer in prompt.answers:
            activation = activation_at(lm, prompt.ids, layer, place)
            for shares in alphas.split(steps_together):
                neurons = (shares[:, None] * activation).requires_grad_()  # (steps together, inner)
                probability = probabilities(lm, prompt.ids, layer, place, neurons)[:, answer].sum()
                (slope,) = torch.autograd.grad(probability, neurons)
                scores[layer] += activation * slope.sum(0) / len(alphas)
    return scores
