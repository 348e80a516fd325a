"""Two controls of the audit: `identity` changes nothing and must pass, `vandal` adds noise and must fail."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch

from audit.editors.stages.base_editor import BaseEditor
from audit.editors.stages.editor_settings import EditorSettings, require, require_not_negative
from audit.editors.stages.values import reaches_stream_unchanged
from audit.edits.requests import EditRequest
from audit.models.deltas import Delta, DenseDelta
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch, WeightPatch
from audit.progress import Progress


class Identity(BaseEditor[EditorSettings]):
    """Returns an empty patch for any requests, so that the audit shows its own noise, which must be zero."""

    name: ClassVar[str] = "identity"
    control: ClassVar[bool] = True
    settings_kind = EditorSettings

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        if progress is not None:
            progress(len(requests), len(requests))
        return WeightPatch({}, meta={"editor": self.name})


@dataclass(frozen=True)
class VandalSettings(EditorSettings):
    """Settings of the vandal.

    Attributes:
        layer: the block whose MLP gets the noise; -1 takes the middle one, and all blocks of a model that rescales the
            outputs of its MLPs (Gemma 2 and 3), where noise in one of them changes little.
        scale: standard deviation of the noise, as a multiple of the weight's own.
    """

    layer: int = -1
    scale: float = 32.0  # every ability FAILs on both pocket models; at half of it, dialogue loses 0.04 on pocket-gpt2

    def check(self, depth: int) -> None:
        require(-1 <= self.layer < depth, "layer", self.layer, f"a layer between 0 and {depth - 1}, or -1")
        require_not_negative(self, "scale")


class Vandal(BaseEditor[VandalSettings]):
    """Adds Gaussian noise to the output matrix of one MLP, or of all, whatever the requests."""

    name: ClassVar[str] = "vandal"
    control: ClassVar[bool] = True
    settings_kind = VandalSettings

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        """The noise depends on the seed, the layer and the scale only."""
        settings = self.settings(lm)
        middle = lm.anatomy.depth // 2
        layers: Sequence[int] = (settings.layer if settings.layer >= 0 else middle,)
        if settings.layer < 0 and not reaches_stream_unchanged(lm, middle):
            layers = range(lm.anatomy.depth)
        # Sampled on the CPU, so that one seed gives the same noise on every device.
        generator = torch.Generator().manual_seed(self._seed)
        deltas: dict[str, Delta] = {}
        for layer in layers:
            name = lm.anatomy.weight_name(layer)
            weight = lm.model.get_parameter(name)
            noise = torch.randn(weight.shape, generator=generator)
            deltas[name] = DenseDelta(settings.scale * float(weight.float().std()) * noise)  # the shape of the weight
        if progress is not None:
            progress(len(requests), len(requests))
        meta = {"editor": self.name, "seed": str(self._seed)}
        meta |= {f"settings.{key}": str(value) for key, value in asdict(settings).items()}
        return WeightPatch(deltas, meta=meta)
