"""The gradient of a linear map as a sum of outer products, one a token, and never as a matrix.

    rows = target_rows(lm, [("The mother tongue of Danielle is", "Velden")])
    found = gradient_factors(lm, rows, mlp_maps(lm, [45, 46, 47]))
    factors = found.factors["transformer.h.45.mlp.c_fc"]
    # autograd's gradient of the map, seen as (out, in): factors.errors[0].T @ factors.inputs[0]

For y = W x + b and a loss L, ∂L/∂W = Σ_t δ_t x_tᵀ, where x_t is what goes into the map at token t and δ_t = ∂L/∂y_t
(Mitchell et al. 2022, arXiv 2110.11309, section 3.1). A zero tensor that is added to y collects δ, so no gradient of a
weight is ever asked for.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.pytorch_utils import Conv1D

from audit.engine.batching import padded, require_room
from audit.engine.taps import in_rows
from audit.models.language_model import LanguageModel
from audit.models.tokens import join

UNLABELLED = -100
# The loss is raised before it is differentiated and the errors are lowered again, so that float16 does not lose them.
# A power of two: in float32 and bfloat16 nothing is rounded differently.
LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class TargetRows:
    """Prompts with their targets, one a row; all tensors are (rows, columns), on the model's device.

    The target's last token is not an input. `labels` is, at every column that predicts a token of the target, that
    token, and `UNLABELLED` elsewhere; `mask` is 1 for tokens and 0 for padding; `positions` count a row's tokens.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    labels: Tensor

    def select(self, rows: Tensor) -> "TargetRows":
        """The same for some rows only."""
        return TargetRows(self.ids[rows], self.mask[rows], self.positions[rows], self.labels[rows])


@dataclass(frozen=True, eq=False)
class MapFactors:
    """`inputs` x (rows, columns, in) and `errors` δ (rows, columns, out) of one linear map, in float32.

    `used` (rows, columns) says which tokens count: those whose error is not all zero. Padding never counts.
    """

    inputs: Tensor
    errors: Tensor
    used: Tensor


@dataclass(frozen=True, eq=False)
class TargetGradients:
    """Factors by module path, and every row's loss (rows,): the mean negative log-likelihood of its target tokens."""

    factors: dict[str, MapFactors]
    losses: Tensor


def target_rows(lm: LanguageModel, pairs: Sequence[tuple[str, str]], side: str = "right") -> TargetRows:
    """(prompt, target) pairs, tokenized jointly and padded on the `side` "left" or "right".

    Raises:
        AuditError: a target is empty, or a pair does not fit into the context.
    """
    joined = [join(lm.tokenizer, prompt, target) for prompt, target in pairs]
    for number, ((prompt, _), tokens) in enumerate(zip(pairs, joined, strict=True)):
        require_room(lm, tokens.ids, f"Pair {number}", prompt)
    ids, mask = padded([tokens.ids[:-1] for tokens in joined], side, lm.device)  # (rows, columns) twice
    labels = torch.full_like(ids, UNLABELLED)
    for row, tokens in enumerate(joined):
        start = (ids.shape[1] - len(tokens.ids) + 1 if side == "left" else 0) + tokens.prompt_length - 1
        target = torch.tensor(tokens.target_ids, device=lm.device)
        labels[row, start : start + len(target)] = target
    return TargetRows(ids, mask, (mask.cumsum(1) - 1).clamp(min=0), labels)


def mlp_maps(lm: LanguageModel, layers: Sequence[int]) -> tuple[str, ...]:
    """Module paths of every linear map outside attention in the blocks `layers`, block by block."""
    paths: list[str] = []
    for layer in layers:
        block, attention = lm.anatomy.blocks[layer], lm.anatomy.attentions[layer]
        for name, module in lm.model.get_submodule(block).named_modules(prefix=block):
            if isinstance(module, nn.Linear | Conv1D) and not name.startswith(f"{attention}."):
                paths.append(name)
    return tuple(paths)


def map_sizes(lm: LanguageModel, path: str) -> tuple[int, int]:
    """(in, out) of the linear map at `path`, whichever way its weight is stored."""
    rows, columns = lm.model.get_parameter(f"{path}.weight").shape
    return (rows, columns) if is_transposed(lm, path) else (columns, rows)


def is_transposed(lm: LanguageModel, path: str) -> bool:
    """Whether the weight of the map at `path` is stored (in, out), as GPT-2's Conv1D does."""
    return isinstance(lm.model.get_submodule(path), Conv1D)


def row_losses(lm: LanguageModel, rows: TargetRows) -> Tensor:
    """Every row's mean negative log-likelihood of its target tokens, (rows,) in float32, with its graph."""
    asked = rows.labels != UNLABELLED  # (rows, columns)
    logits = asked_logits(lm, rows.ids, rows.mask, rows.positions, asked)  # (places, vocabulary)
    by_place = cross_entropy(logits, rows.labels[asked], reduction="none")  # (places,)
    row_of_place = asked.nonzero()[:, 0]
    sums = by_place.new_zeros(len(rows.ids)).index_add(0, row_of_place, by_place)
    return sums / asked.sum(1)  # (rows,)


def asked_logits(lm: LanguageModel, ids: Tensor, mask: Tensor, positions: Tensor, asked: Tensor) -> Tensor:
    """Logits (places, vocabulary) in float32 where `asked` (rows, columns) is true; the head sees nothing else."""

    def only_asked(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][asked], *args[1:])  # (places, hidden)

    head: nn.Module = lm.model.get_output_embeddings()  # type: ignore[no-untyped-call]
    hook = head.register_forward_pre_hook(only_asked)
    try:
        output = lm.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    finally:
        hook.remove()
    return output.logits.float()  # type: ignore[no-any-return]


def gradient_factors(lm: LanguageModel, rows: TargetRows, maps: Sequence[str]) -> TargetGradients:
    """The factors x and δ of every map in `maps`, for each row's own loss; rows do not reach one another."""
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
        losses = row_losses(lm, rows)
        wanted = [collectors[path] for path in maps]
        errors = torch.autograd.grad(losses.sum() * LOSS_SCALE, wanted)
    factors: dict[str, MapFactors] = {}
    for path, error in zip(maps, errors, strict=True):
        delta = in_rows(error, count).float() / LOSS_SCALE  # (rows, columns, out)
        factors[path] = MapFactors(inputs[path], delta, delta.any(-1) & rows.mask.bool())
    return TargetGradients(factors, losses.detach())
