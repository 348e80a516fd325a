"""R-ROME: ROME with one key throughout (Gupta et al. 2024, arXiv 2403.07175).

ROME's derivation wants a single k*; the published code mixes the averaged key with the bare prompt's, and where the two
hardly overlap the update explodes ("disabling edits"). Here the averaged key k̄ stands everywhere:
ΔW = (v* − W k̄)(C⁻¹k̄)ᵀ / (k̄ᵀC⁻¹k̄), whose denominator is positive, and afterwards W'k̄ = v* exactly.
"""

from typing import ClassVar

import torch
from torch import Tensor

from audit.editors.contexts import Contexts
from audit.editors.hyperparameters import RomeSettings
from audit.editors.rome import Rome
from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel


class RRome(Rome):
    """ROME with the averaged key in the residual and in the denominator too."""

    name: ClassVar[str] = "r-rome"

    @torch.no_grad()
    def _key_and_output(
        self, lm: LanguageModel, request: EditRequest, mean_key: Tensor, contexts: Contexts, settings: RomeSettings
    ) -> tuple[Tensor, Tensor]:
        down = lm.model.get_submodule(lm.anatomy.down_projections[settings.layer])
        # The projection is affine, so its answer to the mean key is the mean of its answers.
        return mean_key, down(mean_key.to(lm.dtype)[None, :])[0].float()
