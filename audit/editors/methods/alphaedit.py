"""AlphaEdit: MEMIT whose updates stay in the null space of the old keys (Fang et al. 2024, arXiv 2410.02355).

With P the projection onto the eigenvectors U₀ of C whose eigenvalues are small, and M = Σ K Kᵀ over the earlier steps
of a sequence, the authors solve [P(KKᵀ + M) + L2·I] X = P K Rᵀ and write ΔW = Xᵀ. X lies in the span of U₀, so the same
X is U₀ (U₀ᵀ(KKᵀ + M)U₀ + L2·I)⁻¹ U₀ᵀK Rᵀ: a least squares between the keys as U₀ sees them, smaller, symmetric and
positive definite.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from torch import Tensor

from audit.editors.stages.contexts import Contexts
from audit.editors.stages.hyperparameters import LayersSettings, require
from audit.editors.stages.null_space import NullSpace, null_space
from audit.editors.stages.past_keys import KeepsPastKeys
from audit.editors.stages.published import GPT2_XL, GPT_J, LLAMA_3_8B, QWEN_2_7B, Shape
from audit.editors.stages.solve import IDENTITY, least_squares_directions, solving_device
from audit.models.language_model import LanguageModel
from audit.store.content import Store

_SMALL_SHARE = 0.1  # of the key dimensions; with fewer free ones edits hardly find room

# AlphaEdit `hparams/AlphaEdit` (GPT-2 XL, GPT-J, Llama 3), EasyEdit `hparams/AlphaEdit` (Qwen 2.5).
_PUBLISHED: dict[Shape, dict[str, Any]] = {
    GPT2_XL: {"layers": (13, 14, 15, 16, 17)},
    GPT_J: {"layers": (3, 4, 5, 6, 7, 8), "steps": 25},
    LLAMA_3_8B: {"layers": (4, 5, 6, 7, 8), "steps": 25, "learning_rate": 0.1},
    QWEN_2_7B: {
        "layers": (4, 5, 6, 7, 8),
        "steps": 25,
        "weight_decay": 1e-3,
        "clamp_norm_factor": 4.0,
        "l2": 1.0,
    },
}


@dataclass(frozen=True)
class AlphaEditSettings(LayersSettings):
    """`null_space_threshold`: eigenvalues of C below it count as zero; absolute, as published, so what is left depends
    on the scale of the model's keys. `null_space_share` above 0 takes its place: the share of key dimensions, those
    with the smallest eigenvalues, that may be written. `l2` is the weight of the least squares' L2·I.
    `covariance_ridge` plays no part here.
    """

    published: ClassVar[Mapping[Shape, Mapping[str, Any]]] = MappingProxyType(_PUBLISHED)

    null_space_threshold: float = 0.02
    null_space_share: float = 0.0
    l2: float = 10.0

    def check(self, depth: int) -> None:
        super().check(depth)
        for name in ("null_space_threshold", "l2"):
            value = getattr(self, name)
            require(math.isfinite(value) and value > 0, name, value, "a number above 0")
        share = self.null_space_share
        require(0 <= share <= 1, "null_space_share", share, "a number between 0 and 1")


class AlphaEdit(KeepsPastKeys[AlphaEditSettings]):
    """Many facts at once, written only where the model's keys hardly reach, and clear of what earlier steps wrote."""

    name: ClassVar[str] = "alphaedit"
    settings_kind = AlphaEditSettings

    def __init__(
        self,
        config: Mapping[str, str] | None = None,
        seed: int = 0,
        store: Store | None = None,
        *,
        contexts: Contexts | None = None,
        moments: Mapping[int, Tensor] | None = None,
    ) -> None:
        super().__init__(config, seed, store, contexts=contexts, moments=moments)
        self._spaces: WeakKeyDictionary[LanguageModel, dict[int, NullSpace]] = WeakKeyDictionary()

    def _layers(self, settings: AlphaEditSettings) -> tuple[int, ...]:
        return settings.layers

    def _meet(self, lm: LanguageModel, settings: AlphaEditSettings) -> None:
        self.contexts(lm)
        if lm not in self._spaces:
            device = solving_device(lm.device)
            moments = self._covariance.moments(lm, settings.layers, settings)
            self._spaces[lm] = {
                layer: null_space(
                    moments[layer].to(device), layer, settings.null_space_threshold, settings.null_space_share
                )
                for layer in settings.layers
            }

    def _directions(self, lm: LanguageModel, layer: int, keys: Tensor, settings: AlphaEditSettings) -> Tensor:
        seen = self._seen_by_solve(lm, layer, keys)  # U₀ᵀK, (free, requests)
        within = least_squares_directions(IDENTITY, seen, settings.l2, self._past_of(lm, layer), setting="l2")
        return self._spaces[lm][layer].basis @ within  # (inner, requests)

    def _seen_by_solve(self, lm: LanguageModel, layer: int, keys: Tensor) -> Tensor:
        basis = self._spaces[lm][layer].basis
        return basis.T @ keys.to(basis)

    def _told_of(self, lm: LanguageModel) -> dict[str, str]:
        spaces = self._spaces[lm]
        told = {
            f"null_space.layer_{layer}": f"{space.basis.shape[1]} of {space.basis.shape[0]} key dimensions, "
            f"{space.left / space.total:.2g} of the keys' energy"
            for layer, space in spaces.items()
        }
        narrow = [layer for layer, space in spaces.items() if space.share < _SMALL_SHARE]
        if narrow:
            told["null_space.warning"] = (
                f"less than {_SMALL_SHARE:.0%} of the key dimensions are free in layer {', '.join(map(str, narrow))}, "
                "so edits may not take; give a larger null_space_threshold, or a null_space_share."
            )
        return told
