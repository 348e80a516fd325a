"""The module paths of a causal language model's parts, found from its structure and never from module names.

    anatomy = find_anatomy(model)
    weight = model.get_parameter(anatomy.weight_name(5))  # the down projection that editors write in block 5

The blocks are the list of modules next to the input embedding. In a block, attention is the child whose forward takes
an attention mask, because only attention mixes positions. The down projection is the linear map outside attention from
the inner width back to the hidden width.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from audit.errors import AuditError


@dataclass(frozen=True)
class Anatomy:
    """Module paths (for `model.get_submodule`) and widths of a model. Tuples have one entry per block.

    `mlps` are the modules whose output is added to the residual stream; in a family that keeps the two maps of the MLP
    directly in the block (OPT), this is the down projection. `attention_projections` are the output projections of
    `attentions`. `transposed` means that the weight of a down projection is stored as (inner, hidden), as in GPT-2's
    Conv1D, instead of (hidden, inner).
    """

    blocks: tuple[str, ...]
    mlps: tuple[str, ...]
    attentions: tuple[str, ...]
    attention_projections: tuple[str, ...]
    down_projections: tuple[str, ...]
    final_norm: str
    embeddings: str
    transposed: bool
    hidden_size: int
    inner_size: int

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.blocks)

    def weight_name(self, layer: int) -> str:
        """The parameter name of block `layer`'s down projection.

        Raises:
            AuditError: the model has no such block.
        """
        if not 0 <= layer < self.depth:
            raise AuditError(f"layer {layer} does not exist: this model has layers 0 to {self.depth - 1}.")
        return f"{self.down_projections[layer]}.weight"


def module_at(model: nn.Module, path: str) -> nn.Module:
    """The module at `path`; raises `AuditError` if there is none."""
    try:
        return model.get_submodule(path)
    except AttributeError:
        raise AuditError(f"the model has no module {path!r}; check the path against the model's anatomy.") from None


def find_anatomy(model: PreTrainedModel) -> Anatomy:
    """Find the blocks, MLPs, attentions, down projections, final norm and embeddings of a decoder-only model.

    Raises:
        AuditError: the model is an encoder-decoder or a mixture of experts, its blocks differ, or a part is missing,
            ambiguous or quantized.
    """
    family = type(model).__name__
    if model.config.is_encoder_decoder:
        raise AuditError(
            f"{family} is an encoder-decoder model and has no single stack of blocks to edit; "
            "choose a decoder-only model such as the GPT-2 or Llama family."
        )
    hidden_size = int(model.config.get_text_config().hidden_size)
    embeddings = _path_of(model, model.get_input_embeddings())
    trunk_path = embeddings.rpartition(".")[0]
    trunk = model.get_submodule(trunk_path)

    stack_path = _find_stack(trunk, trunk_path, family)
    parts = [
        _find_parts(block, f"{stack_path}.{index}", hidden_size, family)
        for index, block in enumerate(model.get_submodule(stack_path).children())
    ]
    mixers = sorted({type(model.get_submodule(part.attention)).__name__ for part in parts})
    if len(mixers) != 1:
        raise AuditError(
            f"the blocks of {family} use different token mixers ({', '.join(mixers)}), but editors "
            "support attention only; choose a model with attention in every block."
        )
    downs = [model.get_submodule(part.down_projection) for part in parts]
    inner_sizes = {_sizes(down)[0] for down in downs}
    if len(inner_sizes) != 1:
        raise AuditError(
            f"{family} has MLPs of different widths ({sorted(inner_sizes)}), which editors do not support; "
            "choose a model whose blocks are alike."
        )
    return Anatomy(
        blocks=tuple(part.block for part in parts),
        mlps=tuple(part.mlp for part in parts),
        attentions=tuple(part.attention for part in parts),
        attention_projections=tuple(part.attention_projection for part in parts),
        down_projections=tuple(part.down_projection for part in parts),
        final_norm=_find_final_norm(trunk, trunk_path, hidden_size, family),
        embeddings=embeddings,
        transposed=isinstance(downs[0], Conv1D),
        hidden_size=hidden_size,
        inner_size=inner_sizes.pop(),
    )


@dataclass(frozen=True)
class _BlockParts:
    block: str
    mlp: str
    attention: str
    attention_projection: str
    down_projection: str


def _find_stack(trunk: nn.Module, trunk_path: str, family: str) -> str:
    """The path of the longest ModuleList next to the embedding in which every element contains an attention."""
    stacks = [
        (len(child), _join(trunk_path, name))
        for name, child in trunk.named_children()
        if isinstance(child, nn.ModuleList)
        and len(child) > 0
        and all(any(_takes_mask(part) for part in block.children()) for block in child)
    ]
    if not stacks:
        raise AuditError(
            f"{family} has no list of transformer blocks next to its input embedding; "
            "choose a decoder-only model such as the GPT-2 or Llama family."
        )
    return max(stacks)[1]


def _find_parts(block: nn.Module, path: str, hidden_size: int, family: str) -> _BlockParts:
    attentions = [name for name, child in block.named_children() if _takes_mask(child)]
    if len(attentions) != 1:
        raise AuditError(
            f"block {path!r} of {family} has {len(attentions)} attention modules ({', '.join(attentions) or 'none'}) "
            "where one was expected; choose a decoder-only model without cross-attention or a second mixer."
        )
    attention = attentions[0]
    # The query map may have the same shape as the output projection, but it is registered first.
    projections = [
        name for name, module in _linears(block.get_submodule(attention)) if _sizes(module)[1] == hidden_size
    ]
    if not projections:
        raise AuditError(
            f"the attention {attention!r} of block {path!r} of {family} has no linear map back to the hidden width; "
            "choose a model of a family such as GPT-2 or Llama."
        )

    outside = [(name, _sizes(module)) for name, module in _linears(block) if name.partition(".")[0] != attention]
    # Inner widths: the output widths of maps from the hidden width. A map that also computes the gate is twice as wide.
    reached = {sizes[1] for _, sizes in outside if sizes[0] == hidden_size}
    downs = [
        name
        for name, (inner, outer) in outside
        if outer == hidden_size and inner != hidden_size and (inner in reached or 2 * inner in reached)
    ]
    if not downs:
        # The inner width may equal the hidden width: the down projection is then the last of several square maps.
        downs = [name for name, sizes in outside if sizes == (hidden_size, hidden_size)][1:][-1:]
    # Experts are stored as one tensor with three dimensions (with or without a shared expert), or as separate maps.
    experts = [name for name, parameter in block.named_parameters() if parameter.dim() > 2]
    experts = [name for name in experts if name.partition(".")[0] != attention]
    if experts or len(downs) > 1:
        raise AuditError(
            f"block {path!r} of {family} has several MLP down projections "
            f"({', '.join(experts or downs)}), like a mixture of experts; choose a dense model."
        )
    if not downs:
        raise AuditError(
            f"block {path!r} of {family} has no MLP down projection, a linear map from an inner width back to the "
            "hidden one; choose a model with an MLP in every block."
        )
    weight = block.get_parameter(f"{downs[0]}.weight")
    if not weight.is_floating_point():
        raise AuditError(
            f"the weight of {path}.{downs[0]} is stored as {weight.dtype}, which cannot be edited; "
            "load the model without quantization."
        )
    return _BlockParts(
        block=path,
        mlp=f"{path}.{downs[0].partition('.')[0]}",
        attention=f"{path}.{attention}",
        attention_projection=f"{path}.{attention}.{projections[-1]}",
        down_projection=f"{path}.{downs[0]}",
    )


def _find_final_norm(trunk: nn.Module, trunk_path: str, hidden_size: int, family: str) -> str:
    """The path of the last child of the trunk whose parameters are all vectors of the hidden width."""
    norms = [
        name
        for name, child in trunk.named_children()
        if (shapes := [tuple(parameter.shape) for parameter in child.parameters()])
        and all(shape == (hidden_size,) for shape in shapes)
    ]
    if not norms:
        raise AuditError(
            f"{family} has no final norm next to its blocks; choose a model that normalizes before its head."
        )
    return _join(trunk_path, norms[-1])


def _takes_mask(module: nn.Module) -> bool:
    return "attention_mask" in inspect.signature(module.forward).parameters


def _linears(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every linear map under `module`, in order of registration."""
    return ((name, child) for name, child in module.named_modules() if isinstance(child, nn.Linear | Conv1D))


def _sizes(linear: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear map, however its weight is stored."""
    if isinstance(linear, nn.Linear):
        return linear.in_features, linear.out_features
    inputs, outputs = linear.get_parameter("weight").shape
    return int(inputs), int(outputs)


def _path_of(model: nn.Module, wanted: nn.Module | None) -> str:
    for path, module in model.named_modules():
        if module is wanted:
            return str(path)
    raise AuditError(f"{type(model).__name__} has no input embedding; choose a causal language model.")


def _join(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name
