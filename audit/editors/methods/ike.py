"""IKE: in-context knowledge editing (Zheng et al. 2023, arXiv 2305.12740): the facts are told before every prompt.

No weight and no module changes; `audit.models.demonstrations` says what is put before a prompt. The reference retrieves
its 16 demonstrations by a sentence encoder from a training set of other edits, with their paraphrases and neighbors;
here words are compared, and only what is to be edited is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

from audit.editors.stages.editor_settings import EditorSettings, parse_overrides, require, resolve
from audit.edits.requests import EditRequest
from audit.engine.batching import context_length
from audit.errors import AuditError
from audit.models.demonstrations import SLOT, STYLES, Demonstrations, NewFact
from audit.models.language_model import LanguageModel
from audit.models.patches import ModulePatch, Patch
from audit.progress import Progress
from audit.store.content import Store


@dataclass(frozen=True)
class IkeSettings(EditorSettings):
    """At most `count` facts stand before a prompt, in the `style` "published" or "plain".

    `repeats` is how often the plain style says the most similar one. `answer_room` tokens of the context stay free for
    the answer; the default is the longest that an ability asks for.
    """

    style: str = "published"
    count: int = 16
    repeats: int = 1
    answer_room: int = 256

    def check(self, depth: int) -> None:
        require(self.style in STYLES, "style", self.style, " or ".join(STYLES))
        for name in ("count", "repeats", "answer_room"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")


class Ike:
    """Any number of facts; those that the model carries already are told too."""

    name: ClassVar[str] = "ike"
    batches: ClassVar[bool] = True

    def __init__(self, config: Mapping[str, str] | None = None, seed: int = 0, store: Store | None = None) -> None:
        """`config` holds overrides as typed; nothing is drawn, so `seed` changes nothing."""
        self._overrides = parse_overrides(IkeSettings, self.name, config or {})
        self._seed = seed

    def settings(self, lm: LanguageModel) -> IkeSettings:
        """The settings that this editor uses on this model."""
        return resolve(IkeSettings, self.name, lm, self._overrides)

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        """A module patch that tells the requests' facts and all that the model was told before.

        Raises:
            AuditError: there is no request, or a setting is out of range.
        """
        if not requests:
            raise AuditError(f"the editor {self.name} was given no edit request; give at least one.")
        settings = self.settings(lm)
        attached = lm.attached.get(SLOT)
        before = attached.attachment.facts if attached and isinstance(attached.attachment, Demonstrations) else ()
        facts = tuple(NewFact(request.question.rstrip(" "), request.target_new) for request in requests)
        told = Demonstrations(
            facts=(*before, *facts),
            style=settings.style,
            count=settings.count,
            repeats=settings.repeats,
            length=context_length(lm),
            answer_room=settings.answer_room,
        )
        if progress is not None:
            progress(len(requests), len(requests))
        meta = {
            "editor": self.name,
            "requests": ",".join(request.case_id for request in requests),
            "seed": str(self._seed),
            **{f"settings.{name}": str(value) for name, value in asdict(settings).items()},
        }
        return ModulePatch((told,), meta)
