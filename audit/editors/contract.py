"""The editor contract: an editor turns edit requests into a patch and leaves the model's weights unchanged."""

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

from audit.edits.requests import EditRequest
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch
from audit.progress import Progress


class Editor(Protocol):
    """A method that turns edit requests into a patch.

    An editor object may keep state for each model (covariances, prefix contexts). Nothing is kept at module level.

    Attributes:
        name: the editor's name in reports.
        batches: whether one call of `edit` may get several requests.
        control: whether this is a control, which makes no edit, so that its edit scores are reported and not judged;
            False if left out.
    """

    name: ClassVar[str]
    batches: ClassVar[bool]

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        """A patch for `requests`; the weights of `lm` are the same before and after, bit for bit.

        Raises:
            AuditError: a request or a setting is not valid.
        """
        ...


@runtime_checkable
class ChecksRequests(Protocol):
    """An editor that can say before any edit whether it can use a request.

    A request that it cannot use is then found before the first edit, and not in the middle of a plan.
    """

    def check(self, lm: LanguageModel, request: EditRequest) -> str:
        """What a report notes about the request on this model; empty if there is nothing to note. Cheap: tokens only.

        Raises:
            AuditError: the editor cannot use the request.
        """
        ...


@runtime_checkable
class RemembersSteps(Protocol):
    """An editor that keeps state between the steps of a sequential plan, for example the keys of earlier edits.

    The state must follow from the requests and from the model at the time of the call, so that an interrupted plan can
    be resumed: the finished steps are written and remembered again, but not edited again. In other plans neither method
    is called.
    """

    def forget(self, lm: LanguageModel) -> None:
        """Called before the first step, on the unedited model."""
        ...

    def remember(self, lm: LanguageModel, requests: Sequence[EditRequest]) -> None:
        """Called after each step, on the model that holds the step's patch."""
        ...
