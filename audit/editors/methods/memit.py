"""MEMIT: mass-editing memory in a transformer (Meng et al. 2022, arXiv 2210.07229), as its authors' code does it.

Every request gets a target z for the residual stream at the last edited layer (equation 16). The layers are then
written from the lowest up; each takes an equal share of what remains to be moved (equation 20) by a least squares
between the new keys and the old ones that λC stands for (equation 14).
"""

from typing import ClassVar

from torch import Tensor

from audit.editors.stages.hyperparameters import MemitSettings
from audit.editors.stages.layer_by_layer import LayerByLayer
from audit.editors.stages.solve import least_squares_directions
from audit.models.language_model import LanguageModel


class Memit(LayerByLayer[MemitSettings]):
    """Many facts at once, spread over several layers."""

    name: ClassVar[str] = "memit"
    settings_kind = MemitSettings

    def _layers(self, settings: MemitSettings) -> tuple[int, ...]:
        return settings.layers

    def _directions(self, lm: LanguageModel, layer: int, keys: Tensor, settings: MemitSettings) -> Tensor:
        factor = self._covariance.factors(lm, settings.layers, settings)[layer]
        return least_squares_directions(factor, keys, settings.covariance_weight)
