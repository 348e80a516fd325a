"""R-ROME: ROME with one key throughout (Gupta et al. 2024, arXiv 2403.07175).

ROME's derivation wants a single k*; the published code mixes the averaged key with the bare prompt's, and where the two
hardly overlap the update explodes ("disabling edits"). Here the averaged key k̄ stands everywhere:
ΔW = (v* − W k̄)(C⁻¹k̄)ᵀ / (k̄ᵀC⁻¹k̄), whose denominator is positive, and afterwards W'k̄ = v* exactly.
"""

from dataclasses import dataclass
from typing import ClassVar

from audit.editors.methods.rome import Rome
from audit.editors.stages.hyperparameters import RomeSettings


@dataclass(frozen=True)
class RRomeSettings(RomeSettings):
    """ROME's, published and measured ones too, with one key throughout."""

    key_mode: str = "consistent"


class RRome(Rome):
    """ROME with the averaged key in the residual and in the denominator too."""

    name: ClassVar[str] = "r-rome"
    settings_kind = RRomeSettings
