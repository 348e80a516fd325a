"""The gradient of a linear map as a sum of outer products, one per token, without computing the full matrix.

    rows = padded_targets(lm, [("The mother tongue of Danielle is", "Velden")])
    gradients = gradient_factors(lm, rows, mlp_maps(lm, [45, 46, 47]))
    factors = gradients.factors["transformer.h.45.mlp.c_fc"]
    # the gradient of autograd, in (out, in) orientation: factors.errors[0].T @ factors.inputs[0]

For y = W x + b and a loss L, ∂L/∂W = Σ_t δ_t x_tᵀ, where x_t is the input of the map at token t and δ_t = ∂L/∂y_t
(Mitchell et al. 2022, arXiv 2110.11309, section 3.1). A zero tensor added to y collects δ, so no gradient of a weight
is computed.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.pytorch_utils import Conv1D

from audit.engine.batching import padded, require_room
from audit.engine.taps import in_rows
from audit.models.language_model import LanguageModel
from audit.models.tokens import join

# (model, ids, mask, positions, wanted), the last four (rows, columns) -> logits (places, vocabulary); see `logits_at`.
Logits = Callable[[LanguageModel, Tensor, Tensor, Tensor, Tensor], Tensor]

UNLABELED = -100
# The loss is scaled up for the backward pass and the errors are scaled down, so that they do not underflow in float16.
# A power of two does not change rounding in float32 and bfloat16.
LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class PaddedTargets:
    """Prompts with their targets, one per row; all tensors are (rows, columns), on the model's device.

    The target's last token is not an input. `labels` is the target token in every column that predicts one, and
    `UNLABELED` elsewhere; `mask` is 1 for tokens and 0 for padding; `positions` count the tokens of a row.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    labels: Tensor

    def select(self, rows: Tensor) -> "PaddedTargets":
        """The given rows only."""
        return PaddedTargets(self.ids[rows], self.mask[rows], self.positions[rows], self.labels[rows])


@dataclass(frozen=True, eq=False)
class MapFactors:
    """`inputs` x (rows, columns, in) and `errors` δ (rows, columns, out) of one linear map, in float32.

    `used` (rows, columns) marks the tokens with a nonzero error. It is False for padding.
    """

    inputs: Tensor
    errors: Tensor
    used: Tensor


@dataclass(frozen=True, eq=False)
class TargetGradients:
    """Factors by module path, and each row's loss (rows,): the mean negative log-likelihood of its target tokens."""

    factors: dict[str, MapFactors]
    losses: Tensor


def padded_targets(lm: LanguageModel, pairs: Sequence[tuple[str, str]], side: str = "right") -> PaddedTargets:
    """(prompt, target) pairs, tokenized jointly and padded on the `side` "left" or "right".

    Raises:
        AuditError: a target is empty, or a pair does not fit into the context.
    """
    joined = [join(lm.tokenizer, prompt, target) for prompt, target in pairs]
    for number, ((prompt, _), tokens) in enumerate(zip(pairs, joined, strict=True)):
        require_room(lm, tokens.ids, f"Pair {number}", prompt)
    ids, mask = padded([tokens.ids[:-1] for tokens in joined], side, lm.device)  # (rows, columns) twice
    labels = torch.full_like(ids, UNLABELED)
    for row, tokens in enumerate(joined):
        start = (ids.shape[1] - len(tokens.ids) + 1 if side == "left" else 0) + tokens.prompt_length - 1
        target = torch.tensor(tokens.target_ids, device=lm.device)
        labels[row, start : start + len(target)] = target
    return PaddedTargets(ids, mask, (mask.cumsum(1) - 1).clamp(min=0), labels)


def linear_maps(lm: LanguageModel, layers: Sequence[int], part: Literal["attention", "mlp"]) -> tuple[str, ...]:
    """The module paths of the linear maps in the blocks `layers`: those in attention, or all others ("mlp")."""
    paths: list[str] = []
    for layer in layers:
        block, attention = lm.anatomy.blocks[layer], lm.anatomy.attentions[layer]
        for name, module in lm.model.get_submodule(block).named_modules(prefix=block):
            inside = name.startswith(f"{attention}.")
            if isinstance(module, nn.Linear | Conv1D) and inside == (part == "attention"):
                paths.append(name)
    return tuple(paths)


def mlp_maps(lm: LanguageModel, layers: Sequence[int]) -> tuple[str, ...]:
    """The module paths of all linear maps outside attention in the blocks `layers`, block by block."""
    return linear_maps(lm, layers, "mlp")


def map_sizes(lm: LanguageModel, path: str) -> tuple[int, int]:
    """(in, out) of the linear map at `path`, however its weight is stored."""
    rows, columns = lm.model.get_parameter(f"{path}.weight").shape
    return (rows, columns) if is_transposed(lm, path) else (columns, rows)


def is_transposed(lm: LanguageModel, path: str) -> bool:
    """Whether the weight of the map at `path` is stored as (in, out), like GPT-2's Conv1D."""
    return isinstance(lm.model.get_submodule(path), Conv1D)


def logits_at(lm: LanguageModel, ids: Tensor, mask: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
    """Logits (places, vocabulary) in float32 where `wanted` (rows, columns) is true; the head runs only there."""

    def select_places(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][wanted], *args[1:])  # (places, hidden)

    head: nn.Module = lm.model.get_output_embeddings()  # type: ignore[no-untyped-call]
    hook = head.register_forward_pre_hook(select_places)
    try:
        output = lm.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    finally:
        hook.remove()
    return output.logits.float()  # type: ignore[no-any-return]


def row_losses(lm: LanguageModel, rows: PaddedTargets, logits: Logits = logits_at) -> Tensor:
    """The mean negative log-likelihood of each row's target tokens, (rows,) in float32, with its graph.

    `logits` runs the model, like `logits_at`.
    """
    wanted = rows.labels != UNLABELED  # (rows, columns)
    at_places = logits(lm, rows.ids, rows.mask, rows.positions, wanted)  # (places, vocabulary)
    by_place = cross_entropy(at_places, rows.labels[wanted], reduction="none")  # (places,)
    row_of_place = wanted.nonzero()[:, 0]
    sums = by_place.new_zeros(len(rows.ids)).index_add(0, row_of_place, by_place)
    return sums / wanted.sum(1)  # (rows,)


def gradient_factors(
    lm: LanguageModel, rows: PaddedTargets, maps: Sequence[str], logits: Logits = logits_at
) -> TargetGradients:
    """The factors x and δ of every map in `maps`, for the loss of each row; rows are independent.

    `logits` runs the model, like `logits_at`.
    """
    inputs: dict[str, Tensor] = {}
    collectors: dict[str, Tensor] = {}
    count = len(rows.ids)

    with ExitStack() as hooks, torch.enable_grad():
        for path in maps:

            def collect(_: nn.Module, args: tuple[Any, ...], output: Tensor, path: str = path) -> Tensor:
                inputs[path] = in_rows(args[0].detach(), count).float()
                collectors[path] = torch.zeros_like(output, requires_grad=True)
                return output + collectors[path]

            hooks.callback(lm.model.get_submodule(path).register_forward_hook(collect).remove)
        losses = row_losses(lm, rows, logits)
        errors = torch.autograd.grad(losses.sum() * LOSS_SCALE, [collectors[path] for path in maps])
    factors: dict[str, MapFactors] = {}
    for path, error in zip(maps, errors, strict=True):
        delta = in_rows(error, count).float() / LOSS_SCALE  # (rows, columns, out)
        factors[path] = MapFactors(inputs[path], delta, delta.any(-1) & rows.mask.bool())
    return TargetGradients(factors, losses.detach())
