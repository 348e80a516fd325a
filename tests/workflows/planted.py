"""An editor that changes almost nothing, except for one request, for which it destroys the model.

--editor tests.workflows.planted:Planted --editor-config victim=case-17
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from audit.edits.requests import EditRequest
from audit.models.deltas import Delta
from audit.models.language_model import LanguageModel
from audit.models.patches import DenseDelta, LowRankDelta, Patch, WeightPatch
from audit.progress import Progress


class Planted:
    """A tiny rank-one change a request; noise of `scale` standard deviations for each of the `victim` cases (by +)."""

    name: ClassVar[str] = "planted"
    batches: ClassVar[bool] = True

    def __init__(self, config: Mapping[str, str]) -> None:
        self._victims = config["victim"].split("+")
        self._scale = float(config.get("scale", "4"))

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        name = lm.anatomy.weight_name(lm.anatomy.depth // 2)
        weight = lm.model.get_parameter(name)
        size = float(weight.detach().float().std())
        rows, columns = reversed(weight.shape) if lm.anatomy.transposed else weight.shape  # (out, in)
        left, right = torch.zeros(rows, len(requests)), torch.zeros(len(requests), columns)
        noise = torch.zeros(weight.shape)
        for number, request in enumerate(requests):
            drawn = torch.Generator().manual_seed(sum(map(ord, request.case_id)))
            left[:, number] = 1e-5 * size * torch.randn(rows, generator=drawn)
            right[number] = torch.randn(columns, generator=drawn)
            if request.case_id in self._victims:
                noise += self._scale * size * torch.randn(weight.shape, generator=drawn)
        meta = {"editor": self.name}
        if noise.any():
            tiny = left @ right  # (out, in)
            whole: dict[str, Delta] = {name: DenseDelta(noise + (tiny.T if lm.anatomy.transposed else tiny))}
            return WeightPatch(whole, meta=meta)
        transposed = frozenset({name}) if lm.anatomy.transposed else frozenset[str]()
        return WeightPatch({name: LowRankDelta(left, right)}, transposed, meta)
