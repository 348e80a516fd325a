"""GRACE: a codebook of answers beside one layer (Hartvigsen et al. 2022, arXiv 2211.11031).

The key of an edit is what the layer's down projection sees at the last token of the prompt; its value, optimised so
that the target follows, stands in the place of what the projection says there, and wherever the input comes within ε
of the key. No weight changes. `audit.models.codebook` has the rules by which keys, radii and values live together, and
what is decided otherwise than in the reference.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from audit.editors.stages.answers_above import AnswersAbove
from audit.editors.stages.editor_settings import GPT2_XL, GPT_J, LLAMA_7B, QWEN_2_7B, EditorSettings, Shape, require
from audit.editors.stages.fine_tuning import GradientEditor, require_finite, target_row
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.codebook import Codebook, slot_of
from audit.models.language_model import LanguageModel
from audit.models.patches import ModulePatch, Patch

LAYER_SHARE = 0.75  # of the depth: between the published 35 of 48 and 27 of 32

# EasyEdit `hparams/GRACE`; GPT-2 XL's codebook stands beside the up projection there, here always beside the down one.
_PUBLISHED: Mapping[Shape, Mapping[str, Any]] = MappingProxyType(
    {
        GPT2_XL: {"layer": 35, "steps": 200, "epsilon": 1.0},
        GPT_J: {"layer": 25, "steps": 200, "epsilon": 1.0},
        LLAMA_7B: {"layer": 27, "epsilon": 1.0},
        QWEN_2_7B: {"layer": 18, "epsilon": 1.0},
    }
)


@dataclass(frozen=True)
class GraceSettings(EditorSettings):
    """`layer` is the block beside whose down projection the codebook stands, counted from 0.

    `epsilon` is the radius of a new entry, in the units of that projection's input; 0 means `epsilon_share` of the
    key's own norm, for models whose scale nobody has measured. A value is optimised by Adam in at most `steps` updates
    of `learning_rate`, until −log p per token of the target is below `stop_loss`.
    """

    published: ClassVar[Mapping[Shape, Mapping[str, Any]]] = _PUBLISHED

    layer: int = 0
    epsilon: float = 0.0
    epsilon_share: float = 0.2
    steps: int = 50
    learning_rate: float = 1.0
    stop_loss: float = 0.01

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        return {"layer": min(depth - 1, int(LAYER_SHARE * depth))}

    def check(self, depth: int) -> None:
        require(0 <= self.layer < depth, "layer", self.layer, f"a layer between 0 and {depth - 1}")
        require(self.steps >= 1, "steps", self.steps, "at least 1")
        for name in ("epsilon", "epsilon_share", "stop_loss"):
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, name, value, "a number of at least 0")
        rate = self.learning_rate
        require(math.isfinite(rate) and rate > 0, "learning_rate", rate, "a number above 0")


class Grace(GradientEditor[GraceSettings]):
    """One fact a step; the codebook that the model carries already is extended."""

    name: ClassVar[str] = "grace"
    batches: ClassVar[bool] = False
    settings_kind = GraceSettings

    def _edit(
        self, lm: LanguageModel, requests: Sequence[EditRequest], settings: GraceSettings, tick: Callable[[float], None]
    ) -> Patch:
        if len(requests) != 1:
            raise AuditError(
                f"the editor {self.name} takes one edit request at a time and was given {len(requests)}; "
                "choose an instance mode, or an editor that batches such as memit."
            )
        module = lm.anatomy.down_projections[settings.layer]
        attached = lm.attached.get(slot_of(module))
        codebook = attached.attachment if attached is not None else Codebook.empty(module)
        assert isinstance(codebook, Codebook)  # its slot is nobody else's

        row = target_row(lm, requests[0])
        answers = AnswersAbove.prepared(lm, [row], settings.layer)
        key = answers.inputs[0, 0].float()  # (inner,)
        value, loss, updates = _optimized_value(answers, settings, tick)
        radius = settings.epsilon or settings.epsilon_share * float(key.norm())
        codebook = codebook.with_entry(key, value, row.labels, radius)
        return ModulePatch((codebook,), self._meta(settings, requests, losses=f"{loss:.4g}", updates=str(updates)))


def _optimized_value(
    answers: AnswersAbove, settings: GraceSettings, tick: Callable[[float], None]
) -> tuple[Tensor, float, int]:
    """The value (hidden,), its loss and how many updates were made.

    It starts from what the layer says at the key by itself, or by the entry that holds the key already. The reference
    starts a new value from noise.
    """
    value = answers.outputs[0, 0].float().clone()
    adam = torch.optim.Adam([value], lr=settings.learning_rate)

    def saying(_: Tensor, said: Tensor) -> Tensor:
        first = value.to(said.dtype).expand(1, 1, -1)
        return torch.cat([first, said[:, 1:]], dim=1)  # `replace_last`: at the last prompt token alone

    best, best_loss, updates = value.clone(), math.inf, 0
    while True:
        with torch.enable_grad():
            value.requires_grad_(True)
            loss = answers.losses(saying)[0]
            (value.grad,) = torch.autograd.grad(loss, value)
        value.requires_grad_(False)
        now = float(loss.detach())
        require_finite(now, updates + 1)
        if now < best_loss:
            best, best_loss = value.clone(), now
        if now < settings.stop_loss or updates == settings.steps:
            return best, best_loss, updates
        adam.step()
        updates += 1
        tick(updates / (settings.steps + 1))
