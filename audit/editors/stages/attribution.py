"""Integrated gradients over the MLP neurons: how much each neuron contributes to the probability of a next token.

    prompts = [AnsweredPrompt(joined.prompt_ids, joined.target_ids[:1])]
    scores = attribute_neurons(lm, prompts, place="value", alphas=midpoints(20), token_budget=16384)
    scores[0, 3].topk(5)  # (prompts, depth, inner_size): the five highest-scoring neurons of block 3

At the prompt's last token, all neurons of block l are set to a share α of their activations ā (Dai et al. 2022, arXiv
2104.08696, equations 2 and 3; Sundararajan et al. 2017, arXiv 1703.01365):

    Attr_i = ā_i · ∫₀¹ ∂p(answer)/∂a_i at a = αā dα  ≈  ā_i · (1/m) Σ_j ∂p(answer)/∂a_i at a = α_j ā

With α_j at the midpoints of m equal parts of [0, 1], Σ_i Attr_i equals p at ā minus p at 0, with an error of order
1/m². Other choices of α_j are less exact: k/m (the paper), (k−1)/m (its code), and both ends included (the toolkit),
which with m = 1 evaluates only a = 0.

One clean pass serves all blocks. In the scaled passes, the columns before the last (by causality) and the blocks below
l do not change. Only the last column of the blocks from l on is run, for many α, prompts and answers in one batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from audit.editors.stages.rank_one_gradients import mlp_maps
from audit.engine.sequences import EditSequence, align, within_budget
from audit.engine.taps import tapped
from audit.engine.upper_blocks import UpperBlocks
from audit.models.language_model import LanguageModel

Place = Literal["value", "key"]


@dataclass(frozen=True)
class AnsweredPrompt:
    """`answers` are the tokens whose probability right after `ids` is attributed; several are summed."""

    ids: tuple[int, ...]
    answers: tuple[int, ...]


def midpoints(steps: int) -> Tensor:
    """The midpoints of `steps` equal parts of [0, 1], (steps,) in float32."""
    return (torch.arange(steps) + 0.5) / steps


def both_ends(steps: int) -> Tensor:
    """`steps` evenly spaced shares from 0 to 1, both included (one step: only 0), (steps,) in float32."""
    return torch.linspace(0, 1, steps)


def attribute_neurons(
    lm: LanguageModel, prompts: Sequence[AnsweredPrompt], *, place: Place, alphas: Tensor, token_budget: int
) -> Tensor:
    """Attr of every neuron for every prompt, (prompts, depth, inner_size), in float32 on the model's device.

    Args:
        lm: the model; it is not changed.
        prompts: the prompts, read at their last token, and the tokens whose probabilities are attributed.
        place: "value" scales the input of the down projection; "key" scales the output of the MLP's first map, before
            the activation function (of a gated MLP: the gate).
        alphas: the shares α_j, (steps,).
        token_budget: bounds the padded tokens that attention reads in one batch; the result does not depend on it.
    """
    depth, inner = lm.anatomy.depth, lm.anatomy.inner_size
    scores = torch.zeros(len(prompts), depth, inner, device=lm.device)
    sequences = [EditSequence(prompt.ids, len(prompt.ids) - 1) for prompt in prompts]
    blocks = lm.anatomy.blocks
    paths = [_scaled_map(lm, layer, place) for layer in range(depth)]
    for group in within_budget(sequences, token_budget):
        rows = align([sequences[index] for index in group], lm.device)
        inputs, outputs = (paths, ()) if place == "value" else ((), paths)
        with tapped(lm, len(group), inputs=(*blocks, *inputs), outputs=outputs, column=rows.lookup) as taps:
            whole = UpperBlocks.prepared(lm, rows, start=0, whole=True)
        neurons = taps.inputs if place == "value" else taps.outputs
        answers = [prompts[index].answers for index in group]
        batch = max(1, token_budget // rows.ids.shape[1])
        for layer, path in enumerate(paths):
            activation = neurons[path][:, :inner].float()  # ā, (group, inner)
            upper = whole.entered_at(layer, taps.inputs[blocks[layer]][:, None])  # one column: the last
            slopes = _summed_slopes(lm, upper, path, place, activation, answers, alphas, batch)
            scores[group, layer] = (activation * slopes / len(alphas)).to(scores.device)
    return scores


def _summed_slopes(
    lm: LanguageModel,
    upper: UpperBlocks,
    path: str,
    place: Place,
    activation: Tensor,
    answers: Sequence[tuple[int, ...]],
    alphas: Tensor,
    batch: int,
) -> Tensor:
    """Σ_j ∂p(answers)/∂a at a = α_j ā for one block, (prompts, inner); `batch` rows at a time."""
    slopes = torch.zeros_like(activation)
    owners = torch.arange(len(activation), device=activation.device).repeat_interleave(len(alphas))
    shares = alphas.to(activation.device).repeat(len(activation))  # (prompts · steps,) like `owners`
    for owner, share in zip(torch.split(owners, batch), torch.split(shares, batch), strict=True):
        several = upper.select(owner)
        answer_places = [(row, token) for row, prompt in enumerate(owner.tolist()) for token in answers[prompt]]
        at_rows, tokens = torch.tensor(answer_places, device=lm.device).T
        everywhere = torch.arange(len(owner), device=lm.device)
        scaled = (share[:, None] * activation[owner]).requires_grad_()  # α_j ā, (rows, inner)
        with torch.enable_grad(), _held_at(lm, path, place, scaled):
            logits = several.logits(several.entering, everywhere, torch.zeros_like(everywhere))  # (rows, vocabulary)
            probability = logits.softmax(-1)[at_rows, tokens].sum()
        # Rows are independent, so the gradient of the sum has the gradient of each row.
        (slope,) = torch.autograd.grad(probability, scaled)
        slopes.index_add_(0, owner, slope)
    return slopes


def _scaled_map(lm: LanguageModel, layer: int, place: Place) -> str:
    """The linear map whose input ("value") or output ("key") holds the neurons of a block."""
    return lm.anatomy.down_projections[layer] if place == "value" else mlp_maps(lm, [layer])[0]


@contextmanager
def _held_at(lm: LanguageModel, path: str, place: Place, neurons: Tensor) -> Iterator[None]:
    """Replace the map's input or output by `neurons` (rows, inner), for rows of one column."""

    def into(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (neurons.to(args[0].dtype).view(args[0].shape), *args[1:])

    def out_of(_: Any, __: Any, output: Tensor) -> Tensor:
        # If gate and up projection are one map, the gate comes first and the rest is unchanged.
        rest = output[..., neurons.shape[1] :]
        return torch.cat([neurons.to(output.dtype).view(*output.shape[:-1], -1), rest], dim=-1)

    module = lm.model.get_submodule(path)
    hook = module.register_forward_pre_hook(into) if place == "value" else module.register_forward_hook(out_of)
    try:
        yield
    finally:
        hook.remove()
