"""ROME: rank-one model editing (Meng et al. 2022, arXiv 2202.05262), as its authors' code does it.

Section 3.1 reads one MLP as a key-value store W k = v and inserts k* ↦ v* while disturbing other keys least
(equation 2): ΔW = Λ (C⁻¹k*)ᵀ. The code that was published takes the key k̄ averaged over prefix contexts for the
direction C⁻¹k̄, and the key k₀ of the bare prompt for the residual and the denominator; so does this file, unless
`key_mode` asks for one key throughout: k̄ (R-ROME, see `r_rome`) or k₀ (p-ROME, arXiv 2403.07175).
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from audit.editors.stages.contexts import Contexts
from audit.editors.stages.hyperparameters import RomeSettings
from audit.editors.stages.keys import context_states
from audit.editors.stages.locate_optimize_write import LocateOptimizeWrite
from audit.editors.stages.values import optimize_values
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Patch, WeightPatch
from audit.progress import Progress


class Rome(LocateOptimizeWrite[RomeSettings]):
    """One fact, one layer, one rank-one update."""

    name: ClassVar[str] = "rome"
    batches: ClassVar[bool] = False
    settings_kind = RomeSettings
    openings: ClassVar[tuple[str, ...]] = ("",)  # continuations of "<|endoftext|>"

    def _grouped(self, sampled: tuple[str, ...]) -> Contexts:
        return Contexts((("", *sampled),))  # one group: a flat mean

    def _layers(self, settings: RomeSettings) -> tuple[int, ...]:
        return (settings.layer,)

    def _edit(
        self, lm: LanguageModel, requests: Sequence[EditRequest], settings: RomeSettings, progress: Progress | None
    ) -> Patch:
        contexts, layer = self.contexts(lm), settings.layer
        factor = self._covariance.factors(lm, [layer], settings)[layer]
        values = optimize_values(lm, requests, contexts, layer=layer, site="mlp", settings=settings, progress=progress)
        in_direction, key, current = self._keys(lm, requests[0], contexts, settings)
        direction = factor.solve(in_direction)  # C⁻¹k, (inner,)
        left = direction / direction.norm()  # u
        target = values.targets[0].double().to(left.device)  # v*, (hidden,)

        overlap = key.double().to(left.device) @ left
        residual = target - current.double().to(left.device)
        right = residual / overlap  # equation 2: Λ
        if not bool(right.isfinite().all()):
            raise AuditError(
                f"the update of edit {requests[0].case_id!r} is not finite (its key overlaps the update direction by "
                f"{float(overlap):g}); use the editor r-rome, or covariance=identity."
            )
        name = lm.anatomy.weight_name(layer)
        delta = LowRankDelta(right[:, None], left[None, :])  # (hidden, 1) @ (1, inner)
        transposed = frozenset({name}) if lm.anatomy.transposed else frozenset[str]()
        return WeightPatch({name: delta}, transposed, self._meta(lm, settings, requests, values))

    @torch.no_grad()
    def _keys(
        self, lm: LanguageModel, request: EditRequest, contexts: Contexts, settings: RomeSettings
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The key of the direction, the key that the update is normalised for, and what the down projection says to the
        latter now."""
        mode, path = settings.key_mode, lm.anatomy.down_projections[settings.layer]
        if mode == "prompt":
            contexts = Contexts((("",),))
        states = context_states(lm, [request], contexts, settings.layer, settings.token_budget)
        mean, bare, said = states.mean[0], states.bare[0], states.said[0]  # k̄ and k₀ (inner,), W k₀ (hidden,)
        if mode == "consistent":
            # The projection is affine, so its answer to the mean key is the mean of its answers.
            down = lm.model.get_submodule(path)
            weight = lm.model.get_parameter(f"{path}.weight")
            return mean, mean, down(mean.to(weight)[None, :])[0].float()
        return mean, bare, said
