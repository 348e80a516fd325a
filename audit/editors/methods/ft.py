"""FT: fine-tuning of one down projection on the target tokens (called FT-M in surveys of knowledge editing).

The simplest editor, and the baseline for all others: Adam on the teacher-forced cross-entropy of the targets, without
loss on the prompt, for all requests of a step together. It is the unconstrained fine-tuning in the comparison of ROME
(arXiv 2202.05262), with its published layers and step size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from audit.editors.stages.base_editor import BaseEditor
from audit.editors.stages.editor_settings import Published, Shapes, layer_at
from audit.editors.stages.fine_tuning import TuningSettings, target_row, tune_down_projections
from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch, WeightPatch
from audit.progress import Tick

_PUBLISHED: Published = {  # kmeng01/rome hparams/FT/*_unconstr.json; EasyEdit hparams/FT
    Shapes.GPT2_XL: {"layers": (1,)},
    Shapes.GPT_J: {"layers": (21,)},
    Shapes.LLAMA_7B: {"layers": (21,)},
    Shapes.LLAMA_3_8B: {"layers": (21,)},
    Shapes.MISTRAL_7B: {"layers": (21,)},
    Shapes.QWEN_2_7B: {"layers": (27,)},
}
_SHARES = {"gpt2": 0.03, "other": 0.67}  # the published layers as a share of the depth


@dataclass(frozen=True)
class FineTuningSettings(TuningSettings):
    """`layers` are the blocks whose down projections are trained, together if there are several."""

    published: ClassVar[Published] = _PUBLISHED

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        return {"layers": (layer_at(_SHARES, model_type, depth),)}


class FineTuning(BaseEditor[FineTuningSettings]):
    """Edits many facts at once by gradient descent on one matrix."""

    name: ClassVar[str] = "ft"
    settings_kind = FineTuningSettings

    def _edit(
        self, lm: LanguageModel, requests: Sequence[EditRequest], settings: FineTuningSettings, tick: Tick
    ) -> Patch:
        tuned = tune_down_projections(lm, [target_row(lm, request) for request in requests], settings, tick)
        end = tuned.descent
        meta = self._meta(settings, requests, loss=f"{end.loss:.4g}", updates=str(end.updates))
        return WeightPatch(tuned.deltas, meta=meta)
