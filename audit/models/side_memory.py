"""A side memory beside one linear map: a second weight that speaks in the map's stead where its inputs are edited ones.

    memory = SideMemory.empty("transformer.h.3.mlp.c_proj", ratio=0.88).with_shard(change, activations)
    with ModulePatch((memory,)).applied(lm):
        ...  # W' where ‖a (W' − W)ᵀ‖ reaches the threshold, W everywhere else, bit for bit

This is WISE's memory (Wang et al. 2024, arXiv 2405.14768, sections 2.3 and 2.4). W' is held as its difference from W.
The reference decides by a mean over a whole batch; here each position of each row decides for itself, so an answer
depends neither on the batch and its padding nor on how a text is cut into calls.
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
    """Shards of edits of the linear map `module`, and the history that routing needs; tensors are float32.

    `shards` (shards, outputs, inputs) are differences W' − W, however the model stores W; `activations`
    (edited positions, inputs) are the inputs at which W' must speak. `ratio` times the smallest activation distance of
    those is the threshold. `density` is the share that a merge keeps. `filled` counts the edits in the last shard,
    `since_merge` those since the last merge, `opened` the shards ever begun.
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
        """A side memory that changes nothing."""
        return cls(module, torch.zeros(0, 0, 0), torch.zeros(0, 0), ratio, density)

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> "SideMemory":
        """The side memory that has these `tensors` and `settings`."""
        return cls(shards=tensors["shards"], activations=tensors["activations"], **settings)

    @property
    def slot(self) -> str:
        return slot_of(self.module)

    def asked(self, prompt: str) -> str:
        return prompt

    def tensors(self) -> dict[str, Tensor]:
        return {"shards": self.shards, "activations": self.activations}

    def settings(self) -> dict[str, Any]:
        return {
            "module": self.module,
            "ratio": self.ratio,
            "density": self.density,
            "filled": self.filled,
            "since_merge": self.since_merge,
            "opened": self.opened,
        }

    def with_shard(self, change: Tensor, activations: Tensor, edits: int, *, new: bool) -> "SideMemory":
        """The memory after `edits` more edits: `change` (outputs, inputs) is a new shard, or the last one as it is now.

        `activations` (positions, inputs) are those of the new edits.
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
        """The memory with its shards merged into one, which takes no further edits."""
        return replace(self, shards=self.change[None], since_merge=0, filled=-1) if len(self.shards) else self

    @cached_property
    def change(self) -> Tensor:
        """W' − W as it is used: (outputs, inputs). A single shard speaks as it is; several are merged first."""
        return ties(tuple(self.shards), self.density) if len(self.shards) > 1 else self.shards[0]

    @cached_property
    def threshold(self) -> float:
        """The activation distance from which W' speaks: just below the smallest of the edits seen (equation 5)."""
        return self.ratio * float((self.activations @ self.change.T).norm(dim=-1).min())

    def put_on(self, lm: LanguageModel) -> Callable[[], None]:
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
    """The slot of a side memory beside `module`."""
    return f"side memory {module}"


def ties(changes: Sequence[Tensor], density: float) -> Tensor:
    """TIES-merging (Yadav et al. 2023, arXiv 2306.01708): trim, elect a sign, mean of those that agree.

    Each change keeps the round(density · size) entries of largest magnitude; per entry the sign with the larger sum
    wins, and the mean is over the changes that have it. Entries that nobody has stay zero.
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
