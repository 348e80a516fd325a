"""What an editor is: it reads requests and hands back a patch, and leaves the weights as it found them."""

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch
from audit.progress import Progress


class Editor(Protocol):
    """A method that turns edit requests into a patch.

    `batches` says whether one call may hold several requests. An editor object may keep state (covariances, prefix
    contexts), keyed by the model's fingerprint; it never keeps anything at module level.
    """

    name: ClassVar[str]
    batches: ClassVar[bool]

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch: ...


@runtime_checkable
class RemembersSteps(Protocol):
    """What an editor has besides, whose next step of a sequence depends on more than the model that it finds.

    The session calls `forget` before the first step of a sequential plan, and `remember` after each step, with that
    step's patch written; also for the steps that an interrupted run had finished. So what is remembered must follow
    from the requests and from the model as it is then. Nothing is called for plans that do not pile up.
    """

    def forget(self, lm: LanguageModel) -> None: ...

    def remember(self, lm: LanguageModel, requests: Sequence[EditRequest]) -> None: ...
