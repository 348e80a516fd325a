"""A side memory on one linear map: a second weight W' that replaces W for inputs similar to the edited ones.

    memory = SideMemory.empty("transformer.h.3.mlp.c_proj", ratio=0.88, density=0.53)
    memory = memory.with_shard(change, activations, edits=1, new=True)
    with ModulePatch((memory,)).applied(lm):
        ...  # W' where ‖a (W' − W)ᵀ‖ reaches the threshold, W everywhere else, bit for bit

This is the memory of WISE (Wang et al. 2024, arXiv 2405.14768, sections 2.3 and 2.4). W' is stored as the difference
from W. The reference code routes by a mean over the whole batch. Here every position of every row is routed separately,
so an answer does not depend on batch, padding, or how a text is split into calls.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from audit.models.anatomy import module_at
from audit.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class SideMemory:
    """Shards of edits for the linear map `module`, and the values that routing needs; tensors are float32.

    `shards` (shards, outputs, inputs) are the differences W' − W in (out, in) orientation. `activations` (edited
    positions, inputs) are the inputs for which W' must be used. The routing threshold is `ratio` times the smallest
    activation distance ‖a (W' − W)ᵀ‖ of these. `density` is the share of entries kept in a merge. `filled` counts the
    edits in the last shard (−1 for a merged one), `since_merge` the edits since the last merge, `opened` the shards
    started so far.
    """

    kind: ClassVar[str] = "side-memory"

    module: str
    shards: Tensor
    activations: Tensor
    ratio: float
    density: float
    filled: int = 0
    since_merge: int = 0
    opened: int = 0

    @classmethod
    def empty(cls, module: str, ratio: float, density: float) -> "SideMemory":
        """A side memory without edits; it changes nothing."""
        return cls(module, torch.zeros(0, 0, 0), torch.zeros(0, 0), ratio, density)

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> "SideMemory":
        """Rebuild a side memory from its saved `tensors` and `settings`."""
        return cls(shards=tensors["shards"], activations=tensors["activations"], **settings)

    @property
    def slot(self) -> str:
        """The attachment slot: one side memory per linear map."""
        return slot_of(self.module)

    def full_prompt(self, prompt: str) -> str:
        """`prompt` unchanged."""
        return prompt

    def tensors(self) -> dict[str, Tensor]:
        """Shards and activations, for saving."""
        return {"shards": self.shards, "activations": self.activations}

    def settings(self) -> dict[str, Any]:
        """All other fields, for saving."""
        return {
            "module": self.module,
            "ratio": self.ratio,
            "density": self.density,
            "filled": self.filled,
            "since_merge": self.since_merge,
            "opened": self.opened,
        }

    def with_shard(self, change: Tensor, activations: Tensor, edits: int, *, new: bool) -> "SideMemory":
        """The memory after `edits` more edits.

        `change` (outputs, inputs) is a new shard if `new`, else the updated last one. `activations` (positions, inputs)
        belong to the new edits.
        """
        change, activations = change.detach().float().cpu()[None], activations.detach().float().cpu()
        before = self.shards if new else self.shards[:-1]
        return replace(
            self,
            shards=torch.cat([before, change]) if len(before) else change,
            activations=torch.cat([self.activations, activations]) if len(self.activations) else activations,
            filled=edits if new else self.filled + edits,
            since_merge=self.since_merge + edits,
            opened=self.opened + int(new),
        )

    def merged(self) -> "SideMemory":
        """The memory with its shards merged into one, which accepts no further edits."""
        return replace(self, shards=self.change[None], since_merge=0, filled=-1) if len(self.shards) else self

    @cached_property
    def change(self) -> Tensor:
        """W' − W (outputs, inputs): the only shard, or the TIES merge of several."""
        return ties(tuple(self.shards), self.density) if len(self.shards) > 1 else self.shards[0]

    @cached_property
    def threshold(self) -> float:
        """The activation distance at and above which W' is used: `ratio` times the smallest one (equation 5)."""
        return self.ratio * float((self.activations @ self.change.T).norm(dim=-1).min())

    def put_on(self, lm: LanguageModel) -> Callable[[], None]:
        """Register the hook that routes the layer's inputs; the returned function removes it."""
        if not len(self.shards) or self.threshold == 0:
            return lambda: None
        change, threshold = self.change.to(lm.device), self.threshold

        def reroute(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            shift = args[0].float() @ change.to(output.device).T  # (..., outputs): a (W' − W)ᵀ
            side = shift.norm(dim=-1) >= threshold  # (...)
            if not bool(side.any()):
                return None
            rerouted = output.clone()
            rerouted[side] = (output[side].float() + shift[side]).to(output.dtype)
            return rerouted

        return module_at(lm.model, self.module).register_forward_hook(reroute).remove


def slot_of(module: str) -> str:
    """The attachment slot of a side memory on `module`."""
    return f"side memory {module}"


def ties(changes: Sequence[Tensor], density: float) -> Tensor:
    """TIES merging (Yadav et al. 2023, arXiv 2306.01708): trim, elect a sign, average the changes that agree.

    Each change keeps its round(density · size) largest entries by magnitude. For each entry the sign of the sum is
    elected, and the changes with that sign are averaged. Entries trimmed from all changes are zero.
    """
    kept = torch.stack([_trimmed(change, density) for change in changes])  # (changes, *shape)
    elected = kept.sum(0).sign()
    agreeing = (kept.sign() == elected) & (kept != 0)
    return (kept * agreeing).sum(0) / agreeing.sum(0).clamp(min=1)


def _trimmed(change: Tensor, density: float) -> Tensor:
    keep = round(density * change.numel())
    places = change.abs().flatten().topk(keep, sorted=False).indices
    trimmed = torch.zeros_like(change).flatten()
    trimmed[places] = change.flatten()[places]
    return trimmed.view(change.shape)
