"""MEMIT: mass-editing memory in a transformer (Meng et al. 2022, arXiv 2210.07229), as its authors' code does it.

Every request gets a target z for the residual stream at the last edited layer (equation 16). The layers are then
written from the lowest up; each takes an equal share of what remains to be moved (equation 20) by a least squares
between the new keys and the old ones that λC stands for (equation 14).
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from audit.editors.contexts import OPENINGS, Contexts
from audit.editors.contract import Progress
from audit.editors.hyperparameters import MemitSettings
from audit.editors.keys import context_keys, lookup_states
from audit.editors.locate_optimize_write import LocateOptimizeWrite
from audit.editors.sequences import prompt_sequence
from audit.editors.solve import least_squares_directions
from audit.editors.values import optimize_values
from audit.edits.requests import EditRequest
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import LowRankDelta, Patch, WeightPatch, originals_kept


class Memit(LocateOptimizeWrite[MemitSettings]):
    """Many facts at once, spread over several layers."""

    name: ClassVar[str] = "memit"
    batches: ClassVar[bool] = True
    settings_kind = MemitSettings
    openings: ClassVar[tuple[str, ...]] = OPENINGS

    def _grouped(self, sampled: tuple[str, ...]) -> Contexts:
        return Contexts((("",), sampled) if sampled else (("",),))  # the bare prompt weighs as much as all others

    def _edit(
        self, lm: LanguageModel, requests: Sequence[EditRequest], settings: MemitSettings, progress: Progress | None
    ) -> Patch:
        contexts, layers = self.contexts(lm), settings.layers
        factors = self._covariance.factors(lm, layers, settings)
        values = optimize_values(
            lm, requests, contexts, layer=layers[-1], site="block", settings=settings, progress=progress
        )
        targets = values.targets.double()  # z, (requests, hidden)
        names = [lm.anatomy.weight_name(layer) for layer in layers]
        transposed = frozenset(names) if lm.anatomy.transposed else frozenset[str]()
        deltas: dict[str, LowRankDelta] = {}
        # Each layer's keys and the remaining residual are those of the model whose lower layers are written already.
        with originals_kept(lm) as originals:
            for written, (layer, name) in enumerate(zip(layers, names, strict=True)):
                keys = context_keys(lm, requests, contexts, layer, settings.token_budget).T  # K, (inner, requests)
                current = self._current(lm, requests, settings)
                residual = ((targets - current.double()) / (len(layers) - written)).T  # equation 20: (hidden, requests)
                directions = least_squares_directions(factors[layer], keys, settings.covariance_weight)
                delta = LowRankDelta(residual.to(directions.device).contiguous(), directions.T.contiguous())
                if not bool(torch.isfinite(delta.left).all() and torch.isfinite(delta.right).all()):
                    raise AuditError(
                        f"the update of layer {layer} is not finite; load the model with dtype float32 "
                        "or give a larger covariance_weight."
                    )
                WeightPatch({name: delta}, transposed).write(lm, originals)
                deltas[name] = delta
        return WeightPatch(deltas, transposed, self._meta(settings, requests, values))

    def _current(self, lm: LanguageModel, requests: Sequence[EditRequest], settings: MemitSettings) -> Tensor:
        """What the last edited block says at the lookup of each bare prompt, (requests, hidden)."""
        block = lm.anatomy.blocks[settings.layers[-1]]
        bare = [prompt_sequence(lm, request) for request in requests]
        states = lookup_states(lm, bare, outputs=[block], stop=block, token_budget=settings.token_budget)
        return states.outputs[block]
