"""FT: fine-tune one down projection on the target tokens; called FT-M by the surveys of knowledge editing.

The plainest editor there is, and the baseline that others must beat: teacher-forced cross-entropy of the target with
the prompt masked, Adam, all requests of a step together. It is the unconstrained fine-tuning that ROME (arXiv
2202.05262) compares with, whose layers and step size are the published ones here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from audit.editors.stages.editor_settings import (
    GPT2_XL,
    GPT_J,
    LLAMA_3_8B,
    LLAMA_7B,
    MISTRAL_7B,
    QWEN_2_7B,
    Shape,
    layer_at,
)
from audit.editors.stages.fine_tuning import GradientEditor, TargetBatch, TuningSettings, descend, target_row, trained
from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch, WeightPatch

_PUBLISHED: dict[Shape, dict[str, Any]] = {  # kmeng01/rome hparams/FT/*_unconstr.json; EasyEdit hparams/FT
    GPT2_XL: {"layers": (1,)},
    GPT_J: {"layers": (21,)},
    LLAMA_7B: {"layers": (21,)},
    LLAMA_3_8B: {"layers": (21,)},
    MISTRAL_7B: {"layers": (21,)},
    QWEN_2_7B: {"layers": (27,)},
}
_SHARES = {"gpt2": 0.03, "other": 0.67}  # the published layers as a share of the depth


@dataclass(frozen=True)
class FineTuningSettings(TuningSettings):
    """`layers` are the blocks whose down projection is trained; several are trained together."""

    published: ClassVar[Mapping[Shape, Mapping[str, Any]]] = MappingProxyType(_PUBLISHED)

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        return {"layers": (layer_at(_SHARES, model_type, depth),)}


class FineTuning(GradientEditor[FineTuningSettings]):
    """Many facts at once, by gradient descent in one matrix."""

    name: ClassVar[str] = "ft"
    settings_kind = FineTuningSettings

    def _edit(
        self,
        lm: LanguageModel,
        requests: Sequence[EditRequest],
        settings: FineTuningSettings,
        tick: Callable[[float], None],
    ) -> Patch:
        rows = [target_row(lm, request) for request in requests]
        names = [lm.anatomy.weight_name(layer) for layer in settings.layers]
        with trained(lm, names, settings.learning_rate) as weights:
            batch = TargetBatch(lm, rows, settings.layers[0], settings.token_budget)
            outcome = descend(batch, weights.parameters, weights.step, settings, tick)
            deltas = weights.deltas()
        meta = self._meta(settings, requests, loss=f"{outcome.loss:.4g}", updates=str(outcome.updates))
        return WeightPatch(deltas, meta=meta)
