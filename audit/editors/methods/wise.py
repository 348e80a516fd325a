"""WISE: edits in a side memory with a router (Wang et al. 2024, arXiv 2405.14768).

A copy W' of one layer's down projection is trained on the targets; each shard of edits trains a random part of its
entries (section 2.3). A margin loss separates the activation distances Δ(a) = ‖a (W' − W)ᵀ‖ of edited and other inputs
(equation 6). W' is used where Δ reaches a share of the smallest distance of the edits (equations 4 and 5); W never
changes. Shards are merged by TIES. `audit.models.side_memory` routes every position of every row separately.

The other inputs are texts sampled from the model, so that no data set is needed; the reference code uses ZsRE's
locality prompts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from audit.editors.stages.answers_above import AnswersAbove, aligned_sequences
from audit.editors.stages.base_editor import BaseEditor
from audit.editors.stages.editor_settings import (
    EditorSettings,
    Published,
    Shapes,
    layer_at,
    require,
    require_counts,
    require_layer,
    require_not_negative,
    require_positive,
)
from audit.editors.stages.fine_tuning import TargetRow, require_finite, target_row
from audit.editors.stages.keys import OPENINGS, sample_prefixes
from audit.edits.requests import EditRequest
from audit.engine.sequences import EditSequence, align, within_budget
from audit.engine.taps import run_body, tapped
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import ModulePatch, Patch, originals_kept
from audit.models.side_memory import SideMemory, slot_of
from audit.models.tokens import encode
from audit.progress import Tick

LAYER_SHARES = {"gpt2": 0.17, "other": 0.85}  # of the depth: the published 8 of 48, and 27 of 32

# EasyEdit `hparams/WISE`; there GPT-2 XL's side memory is on the up projection, here on the down projection.
_PUBLISHED: Published = {
    Shapes.GPT2_XL: {"layer": 8, "steps": 40, "ratio": 0.8},
    Shapes.GPT_J: {"layer": 21, "near": 15.0, "far": 40.0, "gap": 20.0},
    Shapes.LLAMA_7B: {"layer": 27},
    Shapes.MISTRAL_7B: {"layer": 27},
    Shapes.QWEN_2_7B: {"layer": 23},
    Shapes.LLAMA_3_8B: {"layer": 29, "steps": 30, "learning_rate": 0.9, "near": 2.0, "ratio": 0.5},
}


@dataclass(frozen=True)
class WiseSettings(EditorSettings):
    """`layer` is the block whose down projection gets the side memory, counted from 0.

    A share `mask_ratio` of its entries, drawn for each shard, is trained by `steps` of SGD at `learning_rate`, until
    the loss is below `stop_loss`. The margin loss pushes other inputs below `near` (α), edited ones above `far` (β),
    with `gap` (γ) between them, in the units of the projection's output; it averages over the "violating" inputs and
    pairs, as the authors' code does, or over "all". No entry of W' moves by more than `norm_constraint` (0: no bound).
    The routing threshold is `ratio` times the smallest distance of the edits. A new shard starts after `save_freq`
    edits. After `merge_freq` edits the shards are merged, keeping the `density` of largest entries of each.
    `other_texts` texts of `other_tokens` tokens are sampled. `token_budget` bounds the padded tokens of one batch and
    does not change the result.
    """

    published: ClassVar[Published] = _PUBLISHED

    layer: int = 0
    steps: int = 70
    learning_rate: float = 1.0
    stop_loss: float = 0.01
    mask_ratio: float = 0.2
    near: float = 5.0
    far: float = 20.0
    gap: float = 10.0
    margin_mean: str = "violating"
    norm_constraint: float = 1.0
    ratio: float = 0.88
    density: float = 0.53
    save_freq: int = 500
    merge_freq: int = 1000
    other_texts: int = 20
    other_tokens: int = 16
    token_budget: int = 16384

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        return {"layer": layer_at(LAYER_SHARES, model_type, depth)}

    def check(self, depth: int) -> None:
        require_layer(self.layer, depth)
        require_counts(self, "steps", "save_freq", "merge_freq", "other_texts", "other_tokens", "token_budget")
        for name in ("mask_ratio", "density"):
            require(0 < getattr(self, name) <= 1, name, getattr(self, name), "a number above 0 and up to 1")
        require(0 < self.ratio < 1, "ratio", self.ratio, "a number between 0 and 1")
        require_not_negative(self, "near", "far", "gap", "stop_loss", "norm_constraint")
        require(self.margin_mean in MARGIN_MEANS, "margin_mean", self.margin_mean, "violating or all")
        require_positive(self, "learning_rate")


class Wise(BaseEditor[WiseSettings]):
    """Edits many facts at once; continues training the side memory that the model already has."""

    name: ClassVar[str] = "wise"
    settings_kind = WiseSettings

    def _edit(self, lm: LanguageModel, requests: Sequence[EditRequest], settings: WiseSettings, tick: Tick) -> Patch:
        module = lm.anatomy.down_projections[settings.layer]
        attached = lm.attached.get(slot_of(module))
        empty = SideMemory.empty(module, settings.ratio, settings.density)
        memory = attached.attachment if attached is not None else empty
        assert isinstance(memory, SideMemory)  # no other attachment uses this slot
        memory = replace(memory, ratio=settings.ratio, density=settings.density)
        rows = [target_row(lm, request) for request in requests]
        done, losses, updates = 0, list[str](), list[str]()
        with originals_kept(lm) as originals:
            originals.attach(empty)  # the trained change is added separately
            others = self._other_activations(lm, settings)
            while done < len(rows):
                chunk = rows[done : done + _room(memory, settings)]
                trained = self._shard(lm, memory, chunk, others, settings)
                memory = memory.with_shard(
                    trained.change, trained.activations, len(chunk), new=_is_full(memory, settings)
                )
                if memory.since_merge >= settings.merge_freq:
                    memory = memory.merged()
                done += len(chunk)
                losses.append(f"{trained.loss:.4g}")
                updates.append(str(trained.updates))
                tick(done / len(rows))
        meta = self._meta(settings, requests, losses=",".join(losses), updates=",".join(updates))
        return ModulePatch((memory,), meta)

    def _shard(
        self, lm: LanguageModel, memory: SideMemory, rows: Sequence[TargetRow], others: Tensor, settings: WiseSettings
    ) -> "_TrainedShard":
        """Train a new shard, or continue training the last one."""
        new = _is_full(memory, settings)
        shape = (lm.anatomy.hidden_size, lm.anatomy.inner_size)  # (outputs, inputs)
        mask = random_mask(shape, settings.mask_ratio, seed=self._seed + memory.opened + int(new))
        before = torch.zeros(shape) if new else memory.shards[-1]
        return _train(lm, rows, before.to(lm.device), mask.to(lm.device), others, settings)

    def _other_activations(self, lm: LanguageModel, settings: WiseSettings) -> Tensor:
        """The inputs of the down projection on other texts, without the first token of each: (others, inner).

        The first token attends only to itself, and in many models its state is an outlier.
        """
        down = lm.anatomy.down_projections[settings.layer]
        texts = sample_prefixes(lm, OPENINGS, settings.other_texts, settings.other_tokens, self._seed)
        sequences = [EditSequence(tuple(encode(lm.tokenizer, text)), 0) for text in texts if text]
        activations: list[Tensor] = []
        for group in within_budget(sequences, settings.token_budget):
            rows = align([sequences[index] for index in group], lm.device)
            with tapped(lm, len(group), inputs=[down], stop=down) as taps:
                run_body(lm, rows.ids, rows.mask, rows.positions)
            activations.append(taps.inputs[down].to(lm.device)[(rows.mask > 0) & (rows.positions > 0)].float())
        others = torch.cat(activations) if activations else torch.zeros(0, lm.anatomy.inner_size)
        if not len(others):
            raise AuditError(
                f"the model {lm.name} generated no text for the editor {self.name} to keep unchanged; "
                "set other_texts or other_tokens higher."
            )
        return others


def random_mask(shape: tuple[int, ...], ratio: float, seed: int) -> Tensor:
    """True for exactly round(ratio · size) entries; drawn on the CPU, so that a seed gives the same mask on every
    device.
    """
    size = math.prod(shape)
    mask = torch.zeros(size, dtype=torch.bool)
    mask[torch.randperm(size, generator=torch.Generator().manual_seed(seed))[: round(ratio * size)]] = True
    return mask.view(shape)


def margin_loss(
    edited: Tensor, others: Tensor, near: float, far: float, gap: float, average: Callable[[Tensor], Tensor]
) -> Tensor:
    """Equation 6, from the activation distances of edited (edited,) and other (others,) inputs.

    Others should be below `near`, edited ones above `far`, and each pair at least `gap` apart. `average`: of how much
    too far or too near they are, one of `MARGIN_MEANS`.
    """
    pairs = gap - (edited[:, None] - others[None, :])  # (edited, others)
    return sum((average(one) for one in (others - near, far - edited, pairs)), torch.zeros(()))


def violating_mean(excess: Tensor) -> Tensor:
    """The mean of the entries above 0, as in the authors' code; 0 if there is none."""
    return excess.relu().sum() / (excess > 0).sum().clamp(min=1)


def mean_of_all(excess: Tensor) -> Tensor:
    """The mean over all entries, of which those below 0 count as 0."""
    return excess.relu().mean()


MARGIN_MEANS: Mapping[str, Callable[[Tensor], Tensor]] = {"violating": violating_mean, "all": mean_of_all}


@dataclass(frozen=True, eq=False)
class _TrainedShard:
    """`change` (outputs, inputs) of a shard; `activations` (positions, inputs) of its new edits."""

    change: Tensor
    activations: Tensor
    loss: float
    updates: int


def _train(
    lm: LanguageModel,
    rows: Sequence[TargetRow],
    change: Tensor,
    mask: Tensor,
    others: Tensor,
    settings: WiseSettings,
) -> _TrainedShard:
    """SGD on the masked entries of `change` = W' − W: target loss (mean over rows) and margin loss."""
    groups = within_budget(aligned_sequences(rows), settings.token_budget)
    parts = [AnswersAbove.prepared(lm, [rows[index] for index in group], settings.layer) for group in groups]
    edited = torch.cat([part.activations for part in parts])  # (edited positions, inner)
    change = change.clone()

    def output_with_change(inputs: Tensor, outputs: Tensor) -> Tensor:
        return outputs.float() + inputs.float() @ change.T

    updates = 0
    while True:
        change.requires_grad_(True)
        with torch.enable_grad():
            far, near = ((inputs @ change.T).norm(dim=-1) for inputs in (edited, others))
            average = MARGIN_MEANS[settings.margin_mean]
            loss = margin_loss(far, near, settings.near, settings.far, settings.gap, average)
            (gradient,) = torch.autograd.grad(loss, change)
            total = float(loss.detach())
            for part in parts:  # one graph in memory at a time
                loss = part.losses(output_with_change).sum() / len(rows)
                gradient = gradient + torch.autograd.grad(loss, change)[0]
                total += float(loss.detach())
        change.requires_grad_(False)
        require_finite(total, updates + 1)
        if total < settings.stop_loss or updates == settings.steps:
            return _TrainedShard(change, edited, total, updates)
        change -= settings.learning_rate * gradient * mask
        if settings.norm_constraint:
            change.clamp_(-settings.norm_constraint, settings.norm_constraint)
        updates += 1


def _is_full(memory: SideMemory, settings: WiseSettings) -> bool:
    """Whether the next edit starts a new shard."""
    return not 0 < memory.filled < settings.save_freq


def _room(memory: SideMemory, settings: WiseSettings) -> int:
    """The number of edits that fit into the current shard before a new one starts or all are merged."""
    in_shard = settings.save_freq - (0 if _is_full(memory, settings) else memory.filled)
    return max(1, min(in_shard, settings.merge_freq - memory.since_merge))
