"""IKE: in-context knowledge editing (Zheng et al. 2023, arXiv 2305.12740): the new facts precede every prompt.

No weight and no module changes; `audit.models.demonstrations` writes the text in front of a prompt. The reference code
uses a sentence encoder to retrieve its 16 demonstrations from a training set of other edits, with paraphrases and
neighborhood prompts. Here similarity is measured on words, and the demonstrations are the edited facts only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from audit.editors.stages.base_editor import BaseEditor
from audit.editors.stages.editor_settings import EditorSettings, require, require_counts
from audit.edits.requests import EditRequest
from audit.engine.batching import context_length
from audit.models.demonstrations import SLOT, STYLES, Demonstrations, NewFact
from audit.models.language_model import LanguageModel
from audit.models.patches import ModulePatch, Patch
from audit.progress import Tick


@dataclass(frozen=True)
class IkeSettings(EditorSettings):
    """At most `count` facts precede a prompt, in the `style` "published" or "plain".

    `repeats` is how often the plain style states the most similar fact. `answer_room` tokens of the context are kept
    free for the answer; the default is the longest answer of any ability.
    """

    style: str = "published"
    count: int = 16
    repeats: int = 1
    answer_room: int = 256

    def check(self, depth: int) -> None:
        require(self.style in STYLES, "style", self.style, " or ".join(STYLES))
        require_counts(self, "count", "repeats", "answer_room")


class Ike(BaseEditor[IkeSettings]):
    """Edits many facts at once; keeps the facts of earlier edits."""

    name: ClassVar[str] = "ike"
    settings_kind = IkeSettings

    def _edit(self, lm: LanguageModel, requests: Sequence[EditRequest], settings: IkeSettings, tick: Tick) -> Patch:
        attached = lm.attached.get(SLOT)
        before = attached.attachment.facts if attached and isinstance(attached.attachment, Demonstrations) else ()
        facts = tuple(NewFact(request.filled_prompt.rstrip(" "), request.target_new) for request in requests)
        demonstrations = Demonstrations(
            facts=(*before, *facts),
            style=settings.style,
            count=settings.count,
            repeats=settings.repeats,
            length=context_length(lm),
            answer_room=settings.answer_room,
        )
        return ModulePatch((demonstrations,), self._meta(settings, requests))
