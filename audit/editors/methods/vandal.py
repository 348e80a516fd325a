"""The editor that ruins: Gaussian noise in one MLP matrix. An audit that lets it pass is not an audit."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import ClassVar

import torch

from audit.editors.stages.hyperparameters import VandalSettings, parse_overrides, resolve
from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.models.patches import DenseDelta, Patch, WeightPatch
from audit.progress import Progress
from audit.store.content import Store


class Vandal:
    """Adds noise of `scale` standard deviations of the weight itself, whatever is requested."""

    name: ClassVar[str] = "vandal"
    batches: ClassVar[bool] = True

    def __init__(self, config: Mapping[str, str] | None = None, seed: int = 0, store: Store | None = None) -> None:
        self._overrides = parse_overrides(VandalSettings, self.name, config or {})
        self._seed = seed

    def settings(self, lm: LanguageModel) -> VandalSettings:
        """The settings that this editor uses on this model."""
        return resolve(VandalSettings, self.name, lm, self._overrides)

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        """The same noise for the same seed, layer and scale."""
        settings = self.settings(lm)
        layer = settings.layer if settings.layer >= 0 else lm.anatomy.depth // 2
        name = lm.anatomy.weight_name(layer)
        weight = lm.model.get_parameter(name)
        # Drawn on the CPU: one seed, one noise, on every device.
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(self._seed))
        if progress is not None:
            progress(len(requests), len(requests))
        values = settings.scale * float(weight.float().std()) * noise
        meta = {"editor": self.name, "seed": str(self._seed)}
        meta |= {f"settings.{key}": str(value) for key, value in asdict(settings).items()}
        return WeightPatch({name: DenseDelta(values)}, meta=meta)
