"""PMET: precise model editing (Li et al. 2023, arXiv 2308.08742).

A block's output at the subject is the sum of its attention and its MLP. PMET optimizes one vector for each, so
that the MLP need not learn attention's part, and then writes the MLP's only. It is MEMIT otherwise, except that
a layer takes the residual divided by √(layers left), where MEMIT (equation 20) divides by the number of layers left.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from audit.editors.methods.memit import BatchEditor, MemitSettings
from audit.editors.stages.editor_settings import Published, Shapes, require_not_negative
from audit.editors.stages.keys import Contexts
from audit.editors.stages.solve import least_squares_directions
from audit.editors.stages.values import OptimizedValues, optimize_values
from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.progress import Tick

# EasyEdit `hparams/PMET`; the covariance weight of GPT-J is that of the authors' repository, 6,000 (EasyEdit: 15,000).
_GPT_J: dict[str, Any] = {"steps": 30, "learning_rate": 0.2, "kl_factor": 1.0, "covariance_weight": 6_000.0}
_PUBLISHED: Published = {
    Shapes.GPT_J: {"layers": (3, 4, 5, 6, 7, 8), **_GPT_J},
    Shapes.LLAMA_7B: {"layers": (4, 5, 6, 7, 8), "clamp_norm_factor": 1.0},
}


@dataclass(frozen=True)
class PmetSettings(MemitSettings):
    """Settings of MEMIT; `clamp_norm_factor` and `weight_decay` apply to each vector and its own norm.

    Attributes:
        settled_kl: a request whose target ranks first in every context is finished when kl_factor · KL is at most this.
        attention_clamp_norm_factor: if above 0, the clamp of attention's vector. That vector is not written, so its
            effect is lost; small models may need a short one. 0 takes `clamp_norm_factor` for both, as published.
    """

    published: ClassVar[Published] = _PUBLISHED

    settled_kl: float = 0.01
    attention_clamp_norm_factor: float = 0.0

    def check(self, depth: int) -> None:
        super().check(depth)
        require_not_negative(self, "settled_kl", "attention_clamp_norm_factor")


class Pmet(BatchEditor[PmetSettings]):
    """Many facts in one batch; attention and MLP are optimized, the MLPs are written."""

    name: ClassVar[str] = "pmet"
    residual_of_stream: ClassVar[bool] = False
    settings_kind = PmetSettings

    def _layers(self, settings: PmetSettings) -> tuple[int, ...]:
        return settings.layers

    def _targets(
        self, lm: LanguageModel, requests: Sequence[EditRequest], contexts: Contexts, settings: PmetSettings, tick: Tick
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
            tick=tick,
        )
        return values, values.targets[:, 1].double()  # the MLP's targets, (requests, hidden)

    def _current(self, lm: LanguageModel, requests: Sequence[EditRequest], settings: PmetSettings) -> Tensor:
        """The output of the last edited MLP at the lookup of each bare prompt, (requests, hidden)."""
        return self._output(lm, requests, lm.anatomy.mlps[settings.layers[-1]], settings)

    def _parts(self, layers_left: int) -> float:
        return math.sqrt(layers_left)

    def _directions(self, lm: LanguageModel, layer: int, keys: Tensor, settings: PmetSettings) -> Tensor:
        factor = self._covariance.factors(lm, settings.layers, settings)[layer]
        return least_squares_directions(factor, keys, settings.covariance_weight)  # (inner, requests)
