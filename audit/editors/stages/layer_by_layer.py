"""What MEMIT and its successors share: one target a request, and layers that are written from the lowest up.

They differ in what is inverted for the directions of the update, in how the residual is shared out among the layers,
and in where the target stands.
"""

from collections.abc import Sequence
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from audit.editors.stages.contexts import OPENINGS, Contexts
from audit.editors.stages.hyperparameters import ValueSettings
from audit.editors.stages.keys import context_keys, lookup_states
from audit.editors.stages.locate_optimize_write import LocateOptimizeWrite
from audit.editors.stages.values import OptimizedValues, optimize_values
from audit.edits.requests import EditRequest
from audit.engine.sequences import prompt_sequence
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Patch, WeightPatch, originals_kept
from audit.progress import Progress

S = TypeVar("S", bound=ValueSettings)


class LayerByLayer(LocateOptimizeWrite[S]):
    """Base of the editors that write a batch of requests, ΔW = R Dᵀ in each layer: residual R and directions D."""

    batches: ClassVar[bool] = True
    openings: ClassVar[tuple[str, ...]] = OPENINGS

    def _grouped(self, sampled: tuple[str, ...]) -> Contexts:
        return Contexts((("",), sampled) if sampled else (("",),))  # the bare prompt weighs as much as all others

    def _edit(
        self, lm: LanguageModel, requests: Sequence[EditRequest], settings: S, progress: Progress | None
    ) -> Patch:
        contexts, layers = self.contexts(lm), self._layers(settings)
        values, targets = self._targets(lm, requests, contexts, settings, progress)
        names = [lm.anatomy.weight_name(layer) for layer in layers]
        transposed = frozenset(names) if lm.anatomy.transposed else frozenset[str]()
        deltas: dict[str, LowRankDelta] = {}
        # Each layer's keys and the remaining residual are those of the model whose lower layers are written already.
        with originals_kept(lm) as originals:
            for written, (layer, name) in enumerate(zip(layers, names, strict=True)):
                keys = context_keys(lm, requests, contexts, layer, settings.token_budget).T  # K, (inner, requests)
                remaining = targets - self._current(lm, requests, settings).double()  # (requests, hidden)
                residual = remaining.T / self._parts(len(layers) - written)  # R, (hidden, requests)
                directions = self._directions(lm, layer, keys, settings)  # D, (inner, requests)
                delta = LowRankDelta(residual.to(directions.device).contiguous(), directions.T.contiguous())
                if not bool(torch.isfinite(delta.left).all() and torch.isfinite(delta.right).all()):
                    raise AuditError(
                        f"the update of layer {layer} is not finite; load the model with dtype float32 "
                        "or give a larger covariance_weight."
                    )
                WeightPatch({name: delta}, transposed).write(lm, originals)
                deltas[name] = delta
        return WeightPatch(deltas, transposed, self._meta(lm, settings, requests, values) | self._told_of(lm))

    def _targets(
        self,
        lm: LanguageModel,
        requests: Sequence[EditRequest],
        contexts: Contexts,
        settings: S,
        progress: Progress | None,
    ) -> tuple[OptimizedValues, Tensor]:
        """The optimised values, and what `_current` is to become: (requests, hidden) in float64."""
        last = self._layers(settings)[-1]
        values = optimize_values(lm, requests, contexts, layer=last, site="block", settings=settings, progress=progress)
        return values, values.targets.double()  # z

    def _current(self, lm: LanguageModel, requests: Sequence[EditRequest], settings: S) -> Tensor:
        """What the last edited block says at the lookup of each bare prompt, (requests, hidden)."""
        return self._said(lm, requests, lm.anatomy.blocks[self._layers(settings)[-1]], settings)

    def _said(self, lm: LanguageModel, requests: Sequence[EditRequest], module: str, settings: S) -> Tensor:
        """What a module says at the lookup of each bare prompt, (requests, hidden)."""
        bare = [prompt_sequence(lm, request) for request in requests]
        states = lookup_states(lm, bare, outputs=[module], stop=module, token_budget=settings.token_budget)
        return states.outputs[module]

    def _parts(self, layers_left: int) -> float:
        """Into how many parts the residual goes with that many layers left to write; equation 20 of MEMIT."""
        return layers_left

    def _directions(self, lm: LanguageModel, layer: int, keys: Tensor, settings: S) -> Tensor:
        """D for keys K (inner, requests): which keys the update answers to, and how strongly; (inner, requests)."""
        raise NotImplementedError

    def _told_of(self, lm: LanguageModel) -> dict[str, str]:
        """What the patch tells besides."""
        return {}
