"""EMMET: ROME for batches (Gupta et al. 2024, arXiv 2403.14236).

Where MEMIT weighs new keys against old ones, EMMET requires that each new key is mapped to its value exactly, as ROME
does. In a single layer, with MEMIT's keys K, targets and residual R: ΔW = R (KᵀC⁻¹K + μI)⁻¹ KᵀC⁻¹.

With one request and μ = 0 this is R-ROME's update. K of a batch may not have full rank, so batches get a μ above 0.
Then the update is MEMIT's least squares with λ = μ times the weight of C, and the two editors differ in their
defaults.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from audit.editors.methods.memit import BatchEditor, BatchSettings
from audit.editors.methods.rome import LAYER_SHARES, TRACED
from audit.editors.stages.editor_settings import (
    Published,
    Shapes,
    layer_at,
    require_layer,
    require_not_negative,
    require_positive,
)
from audit.editors.stages.solve import least_squares_directions
from audit.errors import AuditError
from audit.models.language_model import LanguageModel

# scalable-model-editing/unified-model-editing `hparams/EMMET`.
_PUBLISHED: Published = {
    Shapes.GPT2_XL: {"layer": 17, "covariance_weight": 1000.0},
    Shapes.GPT_J: {"layer": 5, "steps": 25},
    Shapes.LLAMA_7B: {"layer": 5, "steps": 25, "weight_decay": 1e-3, "clamp_norm_factor": 4.0},
}


@dataclass(frozen=True)
class EmmetSettings(BatchSettings):
    """Settings of EMMET.

    Attributes:
        layer: the block whose MLP is written, counted from 0.
        relaxation: μ for batches. 0 stores every key exactly and needs keys that differ. A single request is always
            stored exactly, as in the authors' code.
        covariance_weight: a factor of C.
    """

    published: ClassVar[Published] = _PUBLISHED
    traced: ClassVar[Published] = TRACED

    layer: int = 0
    relaxation: float = 0.1
    covariance_weight: float = 1.0

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        return {"layer": layer_at(LAYER_SHARES, model_type, depth)}

    def check(self, depth: int) -> None:
        super().check(depth)
        require_layer(self.layer, depth)
        require_not_negative(self, "relaxation")
        require_positive(self, "covariance_weight")


class Emmet(BatchEditor[EmmetSettings]):
    """Many facts in one layer, each stored as exactly as μ allows."""

    name: ClassVar[str] = "emmet"
    settings_kind = EmmetSettings

    def _layers(self, settings: EmmetSettings) -> tuple[int, ...]:
        return (settings.layer,)

    def _directions(self, lm: LanguageModel, layer: int, keys: Tensor, settings: EmmetSettings) -> Tensor:
        inner, count = keys.shape
        relaxation = settings.relaxation if count > 1 else 0.0
        if relaxation == 0 and count > inner:
            raise AuditError(
                f"{count} requests cannot all be stored exactly in {inner} key dimensions; "
                "give a relaxation above 0, or smaller batches."
            )
        factor = self._covariance.factors(lm, [layer], settings)[layer]
        # With wC for C: (wC)⁻¹K (μI + Kᵀ(wC)⁻¹K)⁻¹ = C⁻¹K (μwI + KᵀC⁻¹K)⁻¹ = (μwC + KKᵀ)⁻¹K, so λ = μw.
        weight = relaxation * settings.covariance_weight
        return least_squares_directions(factor, keys, weight, setting="relaxation")
