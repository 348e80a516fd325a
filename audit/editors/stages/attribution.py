"""Integrated gradients over the neurons of every MLP: which of them make a model say its next token?

    prompts = [AnsweredPrompt(joined.prompt_ids, joined.target_ids[:1])]
    scores = attribute_neurons(lm, prompts, place="value", alphas=midpoints(20), token_budget=16384)
    scores[0, 3].topk(5)  # (prompts, depth, inner_size): the five neurons of block 3 that speak for the answer

Neuron i of block l is held at a share α of its activation ā_i at the prompt's last token, together with all others of
its block (Dai et al. 2022, arXiv 2104.08696, equations 2 and 3; Sundararajan et al. 2017, arXiv 1703.01365):

    Attr_i = ā_i · ∫₀¹ ∂p(answer)/∂a_i at a = αā dα  ≈  ā_i · (1/m) Σ_j ∂p(answer)/∂a_i at a = α_j ā

With α_j in the middles of m equal parts of [0, 1], Σ_i Attr_i comes to p at ā less p at 0, with an error of order
1/m². The sums that others use are not exact at either end: k/m (the paper's), (k−1)/m (its code's), and both ends
included (the toolkit's), which with m = 1 looks at a = 0 alone.

One clean pass serves all blocks. Of the scaled passes, the columns before the last never change (causality) and neither
do the blocks below l, so only one column of the blocks from l up is run, for many α, prompts and answers side by side;
what a block is made of is left to the block itself.
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
    """`answers` are tokens whose probability right after `ids` is explained; those of several are summed."""

    ids: tuple[int, ...]
    answers: tuple[int, ...]


def midpoints(steps: int) -> Tensor:
    """The middles of `steps` equal parts of [0, 1], (steps,) in float32."""
    return (torch.arange(steps) + 0.5) / steps


def both_ends(steps: int) -> Tensor:
    """`steps` evenly spaced shares from 0 to 1, both included (one step: 0 alone), (steps,) in float32."""
    return torch.linspace(0, 1, steps)


def attribute_neurons(
    lm: LanguageModel, prompts: Sequence[AnsweredPrompt], *, place: Place, alphas: Tensor, token_budget: int
) -> Tensor:
    """Attr of every neuron for every prompt, (prompts, depth, inner_size), in float32 on the model's device.

    Args:
        lm: the model; nothing of it changes.
        prompts: what is read, at its last token, and which tokens' probabilities are explained.
        place: "value" scales what goes into the down projection; "key" what comes out of the MLP's first map, before
            the activation function (of a gated MLP: the gate).
        alphas: the shares α_j, (steps,).
        token_budget: bounds the tokens, padding included, that attention looks at in one batch; the outcome does not
            depend on it.
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
        seen = taps.inputs if place == "value" else taps.outputs
        answers = [prompts[index].answers for index in group]
        batch = max(1, token_budget // rows.ids.shape[1])
        for layer, path in enumerate(paths):
            activation = seen[path][:, :inner].float()  # ā, (group, inner)
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
        asked = [(row, token) for row, prompt in enumerate(owner.tolist()) for token in answers[prompt]]
        at_rows, tokens = torch.tensor(asked, device=lm.device).T
        everywhere = torch.arange(len(owner), device=lm.device)
        scaled = (share[:, None] * activation[owner]).requires_grad_()  # α_j ā, (rows, inner)
        with torch.enable_grad(), _held_at(lm, path, place, scaled):
            logits = several.logits(several.entering, everywhere, torch.zeros_like(everywhere))  # (rows, vocabulary)
            probability = logits.softmax(-1)[at_rows, tokens].sum()
        # Rows do not reach one another, so the gradient of their sum is each row's own.
        (slope,) = torch.autograd.grad(probability, scaled)
        slopes.index_add_(0, owner, slope)
    return slopes


def _scaled_map(lm: LanguageModel, layer: int, place: Place) -> str:
    """The linear map whose input ("value") or output ("key") the neurons of a block are read at."""
    return lm.anatomy.down_projections[layer] if place == "value" else mlp_maps(lm, [layer])[0]


@contextmanager
def _held_at(lm: LanguageModel, path: str, place: Place, neurons: Tensor) -> Iterator[None]:
    """Put `neurons` (rows, inner) in the place of the map's input, or of its output, for rows of one column."""

    def into(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (neurons.to(args[0].dtype).view(args[0].shape), *args[1:])

    def out_of(_: Any, __: Any, output: Tensor) -> Tensor:
        # Where gate and up projection are one map, the gate comes first and the rest stays as it is.
        rest = output[..., neurons.shape[1] :]
        return torch.cat([neurons.to(output.dtype).view(*output.shape[:-1], -1), rest], dim=-1)

    module = lm.model.get_submodule(path)
    hook = module.register_forward_pre_hook(into) if place == "value" else module.register_forward_hook(out_of)
    try:
        yield
    finally:
        hook.remove()
