"""AlphaEdit: MEMIT with updates in the null space of the old keys (Fang et al. 2024, arXiv 2410.02355).

U₀ are the eigenvectors of C with small eigenvalues, P = U₀U₀ᵀ, and M = Σ K Kᵀ over the earlier steps of a sequence. The
authors solve [P(KKᵀ + M) + L2·I] X = P K Rᵀ and write ΔW = Xᵀ. X lies in the span of U₀, so it equals
U₀ (U₀ᵀ(KKᵀ + M)U₀ + L2·I)⁻¹ U₀ᵀK Rᵀ. This is a least squares in the coordinates of U₀: a smaller system, symmetric and
positive definite.
"""

from dataclasses import dataclass
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from audit.editors.methods.memit import BatchEditor, LayersSettings
from audit.editors.stages.editor_settings import Published, Shapes, require, require_positive
from audit.editors.stages.solve import IDENTITY, least_squares_directions, solving_device
from audit.errors import AuditError
from audit.models.language_model import LanguageModel

_SMALL_SHARE = 0.1  # of the key dimensions; with fewer free ones, edits may fail

# AlphaEdit `hparams/AlphaEdit` (GPT-2 XL, GPT-J, Llama 3), EasyEdit `hparams/AlphaEdit` (Qwen 2.5).
_PUBLISHED: Published = {
    Shapes.GPT2_XL: {"layers": (13, 14, 15, 16, 17)},
    Shapes.GPT_J: {"layers": (3, 4, 5, 6, 7, 8), "steps": 25},
    Shapes.LLAMA_3_8B: {"layers": (4, 5, 6, 7, 8), "steps": 25, "learning_rate": 0.1},
    Shapes.QWEN_2_7B: {
        "layers": (4, 5, 6, 7, 8),
        "steps": 25,
        "weight_decay": 1e-3,
        "clamp_norm_factor": 4.0,
        "l2": 1.0,
    },
}


@dataclass(frozen=True)
class AlphaEditSettings(LayersSettings):
    """Settings of AlphaEdit. `covariance_ridge` has no effect.

    Attributes:
        null_space_threshold: eigenvalues of C below this count as zero. It is absolute, as published, so the size of
            the null space depends on the scale of the model's keys.
        null_space_share: if above 0, used in place of the threshold: the share of key dimensions that may be written,
            those with the smallest eigenvalues.
        l2: the factor L2 in the least squares.
    """

    published: ClassVar[Published] = _PUBLISHED

    null_space_threshold: float = 0.02
    null_space_share: float = 0.0
    l2: float = 10.0

    def check(self, depth: int) -> None:
        super().check(depth)
        require_positive(self, "null_space_threshold", "l2")
        share = self.null_space_share
        require(0 <= share <= 1, "null_space_share", share, "a number between 0 and 1")


@dataclass(frozen=True, eq=False)
class NullSpace:
    """The directions that the keys of a model hardly use.

    Attributes:
        basis: U₀, orthonormal eigenvectors of C, (inner, free) in float64.
        left: the part of trace(C) in these directions.
        total: trace(C).
    """

    basis: Tensor
    left: float
    total: float

    @property
    def share(self) -> float:
        """The share of key dimensions that are free."""
        return self.basis.shape[1] / self.basis.shape[0]


def null_space(moment: Tensor, layer: int, threshold: float, share: float = 0.0) -> NullSpace:
    """The eigenvectors of a second moment C (inner, inner) with eigenvalues below `threshold`.

    With a `share` above 0: those of that share of the key dimensions with the smallest eigenvalues, rounded down.

    Raises:
        AuditError: C is not finite, or no direction is free; the message names `layer`.
    """
    moment = moment.double()
    if not bool(torch.isfinite(moment).all()):
        raise AuditError(
            "the covariance of the keys holds values that are not finite; load the model with dtype float32."
        )
    eigenvalues, vectors = torch.linalg.eigh((moment + moment.T) / 2)  # rising (inner,), (inner, inner)
    inner = len(moment)
    free = int(share * inner) if share > 0 else int((eigenvalues < threshold).sum())
    if free == 0:
        setting = f"null_space_share {share:g}" if share > 0 else f"null_space_threshold {threshold:g}"
        raise AuditError(
            f"none of the {inner} key dimensions of layer {layer} is free to write with {setting} (the eigenvalues of "
            f"C begin at {float(eigenvalues[0]):.2g}, their median is {float(eigenvalues.median()):.2g}); give a "
            "larger one, or a null_space_share such as 0.5."
        )
    return NullSpace(vectors[:, :free].contiguous(), float(eigenvalues[:free].sum()), float(eigenvalues.sum()))


class AlphaEdit(BatchEditor[AlphaEditSettings]):
    """Many facts in one batch, written in the null space of the model's keys and of the earlier steps' keys."""

    name: ClassVar[str] = "alphaedit"
    protects_earlier_steps: ClassVar[bool] = True
    settings_kind = AlphaEditSettings

    def _begin(self) -> None:
        super()._begin()
        self._spaces: WeakKeyDictionary[LanguageModel, dict[int, NullSpace]] = WeakKeyDictionary()

    def _layers(self, settings: AlphaEditSettings) -> tuple[int, ...]:
        return settings.layers

    def _prepare(self, lm: LanguageModel, settings: AlphaEditSettings) -> None:
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
        inside = self._keys_of_solve(lm, layer, keys)  # U₀ᵀK, (free, requests)
        solved = least_squares_directions(IDENTITY, inside, settings.l2, self._past_of(lm, layer), setting="l2")
        return self._spaces[lm][layer].basis @ solved  # (inner, free) @ (free, requests)

    def _keys_of_solve(self, lm: LanguageModel, layer: int, keys: Tensor) -> Tensor:
        basis = self._spaces[lm][layer].basis
        return basis.T @ keys.to(basis)

    def _more_meta(self, lm: LanguageModel) -> dict[str, str]:
        spaces = self._spaces[lm]
        meta = {
            f"null_space.layer_{layer}": f"{space.basis.shape[1]} of {space.basis.shape[0]} key dimensions, "
            f"{space.left / space.total:.2g} of the keys' energy"
            for layer, space in spaces.items()
        }
        narrow = [layer for layer, space in spaces.items() if space.share < _SMALL_SHARE]
        if narrow:
            meta["null_space.warning"] = (
                f"less than {_SMALL_SHARE:.0%} of the key dimensions are free in layer {', '.join(map(str, narrow))}, "
                "so edits may fail; give a larger null_space_threshold, or a null_space_share."
            )
        return meta
