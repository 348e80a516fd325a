"""PMET: precise model editing (Li et al. 2023, arXiv 2308.08742).

What a block says at the subject comes from attention and from the MLP. PMET optimises a vector for each of them
together, so that the MLP need not learn what attention ought to say, and then writes the MLP's alone. The layers share
the residual by 1/√(layers left), where MEMIT takes 1/(layers left): the lower ones carry more.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor

from audit.editors.stages.contexts import Contexts
from audit.editors.stages.hyperparameters import MemitSettings, require
from audit.editors.stages.layer_by_layer import LayerByLayer
from audit.editors.stages.published import GPT_J, LLAMA_7B, Shape
from audit.editors.stages.solve import least_squares_directions
from audit.editors.stages.values import OptimizedValues, optimize_values
from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.progress import Progress

# EasyEdit `hparams/PMET`.
_PUBLISHED: dict[Shape, dict[str, Any]] = {
    GPT_J: {"layers": (3, 4, 5, 6, 7, 8), "steps": 30, "learning_rate": 0.2, "kl_factor": 1.0},
    LLAMA_7B: {"layers": (4, 5, 6, 7, 8), "clamp_norm_factor": 1.0},
}


@dataclass(frozen=True)
class PmetSettings(MemitSettings):
    """MEMIT's, where `clamp_norm_factor` and `weight_decay` hold for either vector by its own norm.

    `settled_kl`: a request whose target ranks first in every context stops once kl_factor · KL is at most that.
    `attention_clamp_norm_factor` above 0 is attention's own clamp: what attention's vector does is lost when only the
    MLP's is written, so a small model may have to keep it short (0, as published: the same clamp for both).
    """

    published: ClassVar[Mapping[Shape, Mapping[str, Any]]] = MappingProxyType(_PUBLISHED)

    settled_kl: float = 0.01
    attention_clamp_norm_factor: float = 0.0

    def check(self, depth: int) -> None:
        super().check(depth)
        for name in ("settled_kl", "attention_clamp_norm_factor"):
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, name, value, "a number of at least 0")


class Pmet(LayerByLayer[PmetSettings]):
    """Many facts at once, by what the MLP says, with attention helping while the target is sought."""

    name: ClassVar[str] = "pmet"
    settings_kind = PmetSettings

    def _layers(self, settings: PmetSettings) -> tuple[int, ...]:
        return settings.layers

    def _targets(
        self,
        lm: LanguageModel,
        requests: Sequence[EditRequest],
        contexts: Contexts,
        settings: PmetSettings,
        progress: Progress | None,
    ) -> tuple[OptimizedValues, Tensor]:
        values = optimize_values(
            lm,
            requests,
            contexts,
            layer=settings.layers[-1],
            site="branches",
            settings=settings,
            settled_kl=settings.settled_kl,
            clamps=(settings.attention_clamp_norm_factor or settings.clamp_norm_factor, settings.clamp_norm_factor),
            progress=progress,
        )
        return values, values.targets[:, 1].double()  # the MLP's; attention's is not written

    def _current(self, lm: LanguageModel, requests: Sequence[EditRequest], settings: PmetSettings) -> Tensor:
        """What the last edited MLP says at the lookup of each bare prompt, (requests, hidden)."""
        return self._said(lm, requests, lm.anatomy.mlps[settings.layers[-1]], settings)

    def _parts(self, layers_left: int) -> float:
        return math.sqrt(layers_left)

    def _directions(self, lm: LanguageModel, layer: int, keys: Tensor, settings: PmetSettings) -> Tensor:
        factor = self._covariance.factors(lm, settings.layers, settings)[layer]
        return least_squares_directions(factor, keys, settings.covariance_weight)
