"""FT-BF: breadth-first fine-tuning of one down projection (LocFT-BF, arXiv 2509.22072).

Depth-first fine-tuning trains one edit until it succeeds, then the next, which undoes the one before. Here every epoch
passes once through all edits of the step, in shuffled mini-batches. Targets end with the end-of-text token (if the
tokenizer has one), so that the model also learns to stop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from audit.editors.stages.base_editor import BaseEditor
from audit.editors.stages.editor_settings import Published, Shapes, layer_at, require_counts
from audit.editors.stages.fine_tuning import (
    TargetBatch,
    TuningSettings,
    require_finite,
    target_row,
    trainable,
)
from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch, WeightPatch
from audit.progress import Tick

_PUBLISHED: Published = {Shapes.LLAMA_3_8B: {"layers": (22,)}, Shapes.QWEN_2_7B: {"layers": (6,)}}
_SHARES = {"qwen2": 0.22, "other": 0.69}


@dataclass(frozen=True)
class BreadthFirstSettings(TuningSettings):
    """`steps` counts epochs, as published; an update uses `batch_size` requests.

    Training stops early once the mean loss of an epoch is below `stop_loss`.
    """

    published: ClassVar[Published] = _PUBLISHED

    batch_size: int = 100

    @classmethod
    def for_depth(cls, model_type: str, depth: int) -> dict[str, Any]:
        return {"layers": (layer_at(_SHARES, model_type, depth),)}

    def check(self, depth: int) -> None:
        super().check(depth)
        require_counts(self, "batch_size")


class BreadthFirst(BaseEditor[BreadthFirstSettings]):
    """Edits many facts at once, in repeated passes over mini-batches."""

    name: ClassVar[str] = "ft-bf"
    settings_kind = BreadthFirstSettings

    def _edit(
        self, lm: LanguageModel, requests: Sequence[EditRequest], settings: BreadthFirstSettings, tick: Tick
    ) -> Patch:
        end = lm.tokenizer.eos_token_id
        rows = [target_row(lm, request, closing=() if end is None else (end,)) for request in requests]
        names = [lm.anatomy.weight_name(layer) for layer in settings.layers]
        generator = torch.Generator().manual_seed(self._seed)
        loss, updates = 0.0, 0
        with trainable(lm, names, settings.learning_rate) as weights:
            for epoch in range(settings.steps):
                loss = 0.0
                order = torch.randperm(len(rows), generator=generator).tolist()
                for first in range(0, len(rows), settings.batch_size):
                    chunk = order[first : first + settings.batch_size]
                    batch = TargetBatch(lm, [rows[index] for index in chunk], settings.layers[0], settings.token_budget)
                    chunk_loss, gradients = batch.loss_and_gradients(weights.parameters)
                    require_finite(chunk_loss, updates + 1)
                    weights.step(gradients)
                    loss += chunk_loss * len(chunk) / len(rows)
                    updates += 1
                tick((epoch + 1) / settings.steps)
                if loss < settings.stop_loss:
                    break
            deltas = weights.deltas()
        meta = self._meta(settings, requests, loss=f"{loss:.4g}", updates=str(updates))
        return WeightPatch(deltas, meta=meta)
