"""MEMIT-seq: MEMIT for sequences of batches, which protects what its earlier steps wrote.

MEMIT's least squares (arXiv 2210.07229, equation 14) knows old keys by λC only, so that a later batch may undo an
earlier one. Here the keys K_p of all earlier steps stand beside them: ΔW = R [(λC + K_p K_pᵀ + K Kᵀ)⁻¹ K]ᵀ. They are
read on the model that holds the step, right after it was written. The first step is MEMIT's own.
"""

from typing import ClassVar

from torch import Tensor

from audit.editors.stages.hyperparameters import MemitSettings
from audit.editors.stages.past_keys import KeepsPastKeys
from audit.editors.stages.solve import least_squares_directions
from audit.models.language_model import LanguageModel


class MemitSeq(KeepsPastKeys[MemitSettings]):
    """MEMIT with the keys of earlier steps in its least squares; MEMIT's settings, published and measured ones too."""

    name: ClassVar[str] = "memit-seq"
    settings_kind = MemitSettings

    def _layers(self, settings: MemitSettings) -> tuple[int, ...]:
        return settings.layers

    def _directions(self, lm: LanguageModel, layer: int, keys: Tensor, settings: MemitSettings) -> Tensor:
        factor = self._covariance.factors(lm, settings.layers, settings)[layer]
        return least_squares_directions(factor, keys, settings.covariance_weight, self._past_of(lm, layer))
