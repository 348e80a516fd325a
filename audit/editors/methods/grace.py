"""GRACE: a codebook of answers on one layer (Hartvigsen et al. 2022, arXiv 2211.11031).

The key of an edit is the input of the layer's down projection at the last token of the prompt. Its value is optimized
so that the target follows, and replaces the output of the projection at that position, and wherever the input is within
ε of the key. No weight changes. `audit.models.codebook` contains the rules for keys, radii and values, and the
differences from the reference code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from audit.editors.stages.answers_above import AnswersAbove
from audit.editors.stages.base_editor import BaseEditor
from audit.editors.stages.editor_settings import (
    EditorSettings,
    Published,
    Shapes,
    require_counts,
    require_layer,
    require_not_negative,
    require_positive,
)
from audit.editors.stages.fine_tuning import Descent, require_finite, target_row
from audit.edits.requests import EditRequest
from audit.models.codebook import Codebook, slot_of
from audit.models.language_model import LanguageModel
from audit.models.patches import ModulePatch, Patch
from audit.progress import Tick

LAYER_SHARE = 0.75  # of the depth: between the published 35 of 48 and 27 of 32

# EasyEdit `hparams/GRACE`; there GPT-2 XL's codebook is on the up projection, here always on the down projection.
_PUBLISHED: Published = {
    Shapes.GPT2_XL: {"layer": 35, "steps": 200, "epsilon": 1.0},
    Shapes.GPT_J: {"layer": 25, "steps": 200, "epsilon": 1.0},
    Shapes.LLAMA_7B: {"layer": 27, "epsilon": 1.0},
    Shapes.QWEN_2_7B: {"layer": 18, "epsilon": 1.0},
}


@dataclass(frozen=True)
class GraceSettings(EditorSettings):
    """`layer` is the block whose down projection gets the codebook, counted from 0.

    `epsilon` is the radius of a new entry, in the units of that projection's input; 0 means `epsilon_share` times the
    norm of the key, for models without a published radius. A value is optimized by Adam in at most `steps` updates at
    `learning_rate`, until −log p per target token is below `stop_loss`.
    """

    published: ClassVar[Published] = _PUBLISHED

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
        require_layer(self.layer, depth)
        require_counts(self, "steps")
        require_not_negative(self, "epsilon", "epsilon_share", "stop_loss")
        require_positive(self, "learning_rate")


class Grace(BaseEditor[GraceSettings]):
    """Edits one fact per step; extends the codebook that the model already has."""

    name: ClassVar[str] = "grace"
    batches: ClassVar[bool] = False
    settings_kind = GraceSettings

    def _edit(self, lm: LanguageModel, requests: Sequence[EditRequest], settings: GraceSettings, tick: Tick) -> Patch:
        module = lm.anatomy.down_projections[settings.layer]
        attached = lm.attached.get(slot_of(module))
        codebook = attached.attachment if attached is not None else Codebook.empty(module)
        assert isinstance(codebook, Codebook)  # no other attachment uses this slot

        row = target_row(lm, requests[0])
        answers = AnswersAbove.prepared(lm, [row], settings.layer)
        key = answers.inputs[0, 0].float()  # (inner,)
        value, descent = _optimized_value(answers, settings, tick)
        radius = settings.epsilon or settings.epsilon_share * float(key.norm())
        codebook = codebook.with_entry(key, value, row.labels, radius)
        meta = self._meta(settings, requests, losses=f"{descent.loss:.4g}", updates=str(descent.updates))
        return ModulePatch((codebook,), meta)


class OptimizedValue(NamedTuple):
    """A value (hidden,), with its loss and the number of updates."""

    value: Tensor
    descent: Descent


def _optimized_value(answers: AnswersAbove, settings: GraceSettings, tick: Tick) -> OptimizedValue:
    """Optimize the value of an edit.

    It starts from the current output of the layer at the key, or of the entry that covers the key. The reference code
    starts a new value from noise.
    """
    value = answers.outputs[0, 0].float().clone()
    adam = torch.optim.Adam([value], lr=settings.learning_rate)

    def output_with_value(_: Tensor, outputs: Tensor) -> Tensor:
        first = value.to(outputs.dtype).expand(1, 1, -1)
        return torch.cat([first, outputs[:, 1:]], dim=1)  # `replace_last`: only at the last prompt token

    best, best_loss, updates = value.clone(), math.inf, 0
    while True:
        with torch.enable_grad():
            value.requires_grad_(True)
            loss = answers.losses(output_with_value)[0]
            (value.grad,) = torch.autograd.grad(loss, value)
        value.requires_grad_(False)
        current = float(loss.detach())
        require_finite(current, updates + 1)
        if current < best_loss:
            best, best_loss = value.clone(), current
        if current < settings.stop_loss or updates == settings.steps:
            return OptimizedValue(best, Descent(best_loss, updates))
        adam.step()
        updates += 1
        tick(updates / (settings.steps + 1))
