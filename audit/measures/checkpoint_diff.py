"""The weight changes of an edited checkpoint: which tensors changed, by how much, in which rank and which entries.

    diff = compare(lm, open_checkpoint(lm, "./my-edited-checkpoint"))
    diff.changes[0].relative_norm  # ‖ΔW‖ / ‖W‖ of the tensor that changed most

ΔW is the difference of the weights after rounding into their dtype. Singular values of a low-rank change are computed
from its factors, before rounding. A weight patch is applied one tensor at a time, and the model is left as it was.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from audit.editors.restraints.prune import largest_singular_value
from audit.editors.stages.solve import solving_device
from audit.measures.integrity import THRESHOLDS, changed_shares, relative_change
from audit.models.checkpoints import EditedCheckpoint
from audit.models.deltas import LowRankDelta
from audit.models.language_model import LanguageModel
from audit.models.originals import originals_kept, parameter_at
from audit.models.patch_changes import attaches_modules, total_changes
from audit.models.patches import Patch, WeightPatch
from audit.progress import Progress

PARAMETER_ROLES = ("attention", "MLP", "norm", "embedding", "head", "other")
# Larger matrices use the eigenvalues of ΔW ΔWᵀ in float64. They are accurate to about 1e-8 of the largest, better than
# an SVD of ΔW in float32, and faster (2,048 x 8,192 on two cores: 4 s instead of 35 s).
EXACT_ENTRIES = 4_000_000
KEPT_SINGULAR_VALUES = 64  # of each change, for the plot


@dataclass(frozen=True)
class TensorChange:
    """The change ΔW of one tensor W. The spectral fields are None or empty for vectors, and if ΔW is not finite.

    `layer` is None outside the blocks. `norm` is ‖ΔW‖_F, `relative_norm` is ‖ΔW‖_F / ‖W‖_F (infinite if W is zero or ΔW
    not finite). `spectral_norm` is σ₁(ΔW), `relative_spectral_norm` is σ₁(ΔW) / σ₁(W). `effective_rank` is exp(−Σ pᵢ ln
    pᵢ) with pᵢ = σᵢ / Σσ, between 1 and the smaller dimension (Roy & Vetterli 2007, eq. 1-3). `numerical_rank` counts
    the singular values above the rounding error of the weights, σᵢ > ε/2 · ‖W + ΔW‖_F. `singular_values` are the
    largest 64. `rounding_only` means that ‖ΔW‖_F is at most that error: the tensor was saved in another precision and
    not edited. `entry_shares` maps thresholds to the share of entries with |ΔW| > threshold · |W| (Gu et al. 2024).
    `largest_entry` is max |ΔW|.
    """

    name: str
    layer: int | None
    role: str
    shape: tuple[int, ...]
    norm: float
    relative_norm: float
    largest_entry: float
    entry_shares: Mapping[float, float]
    rounding_only: bool = False
    spectral_norm: float | None = None
    relative_spectral_norm: float | None = None
    effective_rank: float | None = None
    numerical_rank: int | None = None
    singular_values: tuple[float, ...] = ()

    @property
    def entries(self) -> int:
        """The number of entries of the tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class CheckpointDiff:
    """Every tensor that an edited checkpoint changed, the largest relative norm first.

    `tensors` is the number of tensors of the model (tied ones once), `depth` the number of blocks. `stored_as` is the
    coarsest dtype of the checkpoint if it is coarser than that of the base model. `quantized_as` and
    `base_quantized_as` are the types of the quantized tensors of GGUF files (else empty): unless both are quantized in
    the same way, tensors that were not edited differ too. `attaches_modules` means that the patch contains modules. The
    two are `identical` if nothing changed and no module is attached.
    """

    base: str
    edited: str
    kind: str
    tensors: int
    depth: int
    changes: tuple[TensorChange, ...]
    stored_as: str | None = None
    quantized_as: str = ""
    base_quantized_as: str = ""
    attaches_modules: bool = False

    @property
    def identical(self) -> bool:
        """Whether the checkpoint is the base model: no tensor differs, and nothing is attached."""
        return not self.changes and not self.attaches_modules

    @property
    def entry_shares(self) -> Mapping[float, float]:
        """For each threshold, the share of entries of all changed tensors together."""
        entries = sum(change.entries for change in self.changes) or 1
        return {
            threshold: sum(change.entry_shares[threshold] * change.entries for change in self.changes) / entries
            for threshold in THRESHOLDS
        }


def compare(lm: LanguageModel, edited: EditedCheckpoint, *, progress: Progress | None = None) -> CheckpointDiff:
    """Measure the changes that `edited` makes to `lm`; the model is left unchanged.

    Args:
        progress: called with (parts done, all parts). Each tensor of a weight patch is a part, any other patch is one
            part; the singular values of a large matrix take seconds.

    Raises:
        AuditError: the patch does not fit `lm`.
    """
    coarse = edited.stored_as is not None and torch.finfo(edited.stored_as).eps > torch.finfo(lm.dtype).eps
    changes = []
    parts = tuple(_one_by_one(edited.patch))
    for number, part in enumerate(parts, 1):
        totals = total_changes(lm, part)
        factors = {id(parameter_at(lm.model, name)): delta for name, delta in totals.deltas.items()}
        with originals_kept(lm) as originals:
            part.write(lm, originals)
            for name, original, current in originals.touched():
                delta = factors[id(parameter_at(lm.model, name))]
                low_rank = delta if isinstance(delta, LowRankDelta) else None
                changes.append(_measured(lm, name, original, current, low_rank, edited.stored_as))
        if progress is not None:
            progress(number, len(parts))
    return CheckpointDiff(
        base=lm.name,
        edited=edited.source,
        kind=edited.kind,
        tensors=len({id(parameter) for parameter in lm.model.parameters()}),
        depth=lm.anatomy.depth,
        changes=tuple(sorted(changes, key=lambda change: (-change.relative_norm, change.name))),
        stored_as=str(edited.stored_as).removeprefix("torch.") if coarse else None,
        quantized_as=edited.quantized_as,
        base_quantized_as=lm.quantized_as,
        attaches_modules=attaches_modules(edited.patch),
    )


def singular_values(change: Tensor, factors: LowRankDelta | None = None) -> Tensor:
    """All singular values of `change`, the largest first; from low-rank `factors`, as many as their rank.

    With left = Q₁R₁ and rightᵀ = Q₂R₂, the small matrix R₁R₂ᵀ has the same nonzero singular values as left · right.
    """
    device = solving_device(change.device)
    if factors is not None and factors.left.shape[1] < min(change.shape):
        upper = torch.linalg.qr(factors.left.to(device, torch.float64)).R  # (rank, rank)
        lower = torch.linalg.qr(factors.right.to(device, torch.float64).T).R  # (rank, rank)
        values: Tensor = torch.linalg.svdvals(upper @ lower.T)
        return values
    wide = change.to(device, torch.float64)
    if change.numel() <= EXACT_ENTRIES:
        values = torch.linalg.svdvals(wide)
        return values
    narrow = wide if wide.shape[0] <= wide.shape[1] else wide.T  # (small, large)
    squares: Tensor = torch.linalg.eigvalsh(narrow @ narrow.T)  # σ² in ascending order
    return squares.clamp(min=0).sqrt().flip(0)


def effective_rank(values: Tensor) -> float:
    """exp(entropy) of the normalized singular values (Roy & Vetterli 2007, eq. 1-3); 0 if all are zero."""
    total = values.sum()
    if not bool(total > 0):
        return 0.0
    shares = values / total  # pᵢ
    entropy = -torch.special.xlogy(shares, shares).sum()  # 0 ln 0 is 0
    return float(entropy.exp())


def block_and_role(lm: LanguageModel, name: str) -> tuple[int | None, str]:
    """The block of a parameter (None: outside the blocks), and its role (one of `PARAMETER_ROLES`)."""
    anatomy, module = lm.anatomy, lm.model.get_submodule(name.rpartition(".")[0])
    layer = next((i for i, block in enumerate(anatomy.blocks) if name.startswith(f"{block}.")), None)
    if layer is not None:
        if name.startswith(f"{anatomy.attentions[layer]}."):
            return layer, "attention"
        in_mlp = isinstance(module, nn.Linear | Conv1D) or name.startswith(f"{anatomy.mlps[layer]}.")
        return layer, "MLP" if in_mlp else "norm"
    if isinstance(module, nn.Embedding):
        return None, "embedding"
    model: Any = lm.model  # transformers leaves this method untyped
    if module is model.get_output_embeddings():
        return None, "head"
    return None, "norm" if name.startswith(f"{anatomy.final_norm}.") else "other"


def _one_by_one(patch: Patch) -> Iterator[Patch]:
    """A weight patch split into one patch per weight, to keep one original at a time; other patches unchanged."""
    if not isinstance(patch, WeightPatch):
        yield patch
        return
    for name, delta in patch.deltas.items():
        yield WeightPatch({name: delta}, patch.transposed)


def _measured(
    lm: LanguageModel,
    name: str,
    original: Tensor,
    current: Tensor,
    factors: LowRankDelta | None,
    stored_as: torch.dtype | None,
) -> TensorChange:
    wide = torch.promote_types(original.dtype, torch.float32)
    change = current.to(wide) - original.to(wide)  # as stored: a transpose would not change any of these measures
    layer, role = block_and_role(lm, name)
    # Rounding changes the norm, and σ₁, by at most ε/2 · ‖W + ΔW‖ in the coarsest dtype involved.
    precision = max(torch.finfo(dtype).eps for dtype in (original.dtype, stored_as) if dtype is not None)
    rounding = precision / 2 * float(torch.linalg.vector_norm(current, dtype=torch.float64))
    norm = float(torch.linalg.vector_norm(change, dtype=torch.float64))
    measured = TensorChange(
        name=name,
        layer=layer,
        role=role,
        shape=tuple(original.shape),
        norm=norm,
        relative_norm=relative_change(original, current),
        largest_entry=float(change.abs().max()),
        entry_shares=changed_shares([(original, current)]),
        rounding_only=norm <= rounding,
    )
    if change.dim() != 2 or not bool(change.isfinite().all()):
        return measured
    values = singular_values(change, factors)
    base = largest_singular_value(original)
    top = float(values[0])
    return replace(
        measured,
        spectral_norm=top,
        relative_spectral_norm=top / base if base > 0 else math.inf,
        effective_rank=effective_rank(values),
        numerical_rank=int((values > rounding).sum()),
        singular_values=tuple(values[:KEPT_SINGULAR_VALUES].tolist()),
    )
