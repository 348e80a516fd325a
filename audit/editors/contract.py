"""What an editor is: it reads requests and hands back a patch, and leaves the weights as it found them."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch

Progress = Callable[[int, int], None]  # (requests done, requests in all)


class Editor(Protocol):
    """A method that turns edit requests into a patch.

    `batches` says whether one call may hold several requests. An editor object may keep state (covariances, prefix
    contexts), keyed by the model's fingerprint; it never keeps anything at module level.
    """

    name: ClassVar[str]
    batches: ClassVar[bool]

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch: ...
