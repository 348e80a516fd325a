"""The editor that changes nothing: what the audit says about it is the audit's own noise, which must be none."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from audit.editors.stages.hyperparameters import EditorSettings, parse_overrides
from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch, WeightPatch
from audit.progress import Progress
from audit.store.content import Store


class Identity:
    """Answers every request with the empty patch."""

    name: ClassVar[str] = "identity"
    batches: ClassVar[bool] = True

    def __init__(self, config: Mapping[str, str] | None = None, seed: int = 0, store: Store | None = None) -> None:
        parse_overrides(EditorSettings, self.name, config or {})

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        if progress is not None:
            progress(len(requests), len(requests))
        return WeightPatch({}, meta={"editor": self.name})
