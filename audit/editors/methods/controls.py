"""Two controls of the audit: `identity` changes nothing and must pass, `vandal` adds noise and must fail."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch

from audit.editors.stages.base_editor import BaseEditor
from audit.editors.stages.editor_settings import EditorSettings, require, require_not_negative
from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.models.patches import DenseDelta, Patch, WeightPatch
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
        layer: the block whose MLP gets the noise; -1 takes the middle one.
        scale: standard deviation of the noise, as a multiple of the weight's own.
    """

    layer: int = -1
    scale: float = 32.0  # every ability FAILs on both pocket models; at half of it, dialogue loses 0.04 on pocket-gpt2

    def check(self, depth: int) -> None:
        require(-1 <= self.layer < depth, "layer", self.layer, f"a layer between 0 and {depth - 1}, or -1")
        require_not_negative(self, "scale")


class Vandal(BaseEditor[VandalSettings]):
    """Adds Gaussian noise to one MLP matrix, whatever the requests."""

    name: ClassVar[str] = "vandal"
    control: ClassVar[bool] = True
    settings_kind = VandalSettings

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        """The noise depends on the seed, the layer and the scale only."""
        settings = self.settings(lm)
        layer = settings.layer if settings.layer >= 0 else lm.anatomy.depth // 2
        name = lm.anatomy.weight_name(layer)
        weight = lm.model.get_parameter(name)
        # Sampled on the CPU, so that one seed gives the same noise on every device.
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(self._seed))
        if progress is not None:
            progress(len(requests), len(requests))
        values = settings.scale * float(weight.float().std()) * noise  # the shape of the weight
        meta = {"editor": self.name, "seed": str(self._seed)}
        meta |= {f"settings.{key}": str(value) for key, value in asdict(settings).items()}
        return WeightPatch({name: DenseDelta(values)}, meta=meta)
