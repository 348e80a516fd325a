"""Base class of editors with settings: overrides, checks of the requests, progress, and the meta of the patch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import ClassVar, Generic, TypeVar

from audit.editors.stages.editor_settings import EditorSettings, LocatedLayers, parse_overrides, resolve
from audit.edits.requests import EditRequest
from audit.engine.sequences import target_tokens
from audit.errors import AuditError
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch
from audit.progress import Progress, Tick
from audit.store.content import Store

S = TypeVar("S", bound=EditorSettings)


class BaseEditor(Generic[S]):
    """Subclasses set `name`, `batches` and `settings_kind`, and implement `_edit`."""

    name: ClassVar[str]
    batches: ClassVar[bool] = True
    settings_kind: type[S]

    def __init__(self, config: Mapping[str, str] | None = None, seed: int = 0, store: Store | None = None) -> None:
        """
        Args:
            config: overrides of settings, as text.
            seed: seed of all random draws.
            store: keeps located layers, and what an editor measures, between runs; None keeps nothing.
        """
        self._overrides = parse_overrides(self.settings_kind, self.name, config or {})
        self._seed = seed
        self._located = LocatedLayers(store)

    def settings(self, lm: LanguageModel) -> S:
        """The settings of this editor for this model."""
        return resolve(self.settings_kind, self.name, lm, self._overrides, self._located)

    def check(self, lm: LanguageModel, request: EditRequest) -> str:
        """What a report notes about the request; empty if there is nothing to note.

        Raises:
            AuditError: this editor cannot use the request on this model.
        """
        target_tokens(lm, request)
        return ""

    def edit(self, lm: LanguageModel, requests: Sequence[EditRequest], progress: Progress | None = None) -> Patch:
        """A patch that changes the model's answers to the new targets; `lm` is left unchanged.

        Raises:
            AuditError: a request cannot be used, a setting is out of range, or a number is not finite.
        """
        if not requests:
            raise AuditError(f"the editor {self.name} was given no edit request; give at least one.")
        if len(requests) > 1 and not self.batches:
            raise AuditError(
                f"the editor {self.name} takes one edit request at a time and was given {len(requests)}; "
                "choose an instance mode, or an editor that batches such as memit."
            )

        def tick(share: float) -> None:
            if progress is not None:
                progress(int(share * len(requests) + 1e-9), len(requests))

        patch = self._edit(lm, requests, self.settings(lm), tick)
        tick(1.0)
        return patch

    def _edit(self, lm: LanguageModel, requests: Sequence[EditRequest], settings: S, tick: Tick) -> Patch:
        """The patch for checked requests; call `tick` with the share of the work that is done."""
        raise NotImplementedError

    def _meta(self, settings: S, requests: Sequence[EditRequest], **facts: str) -> dict[str, str]:
        """The meta of a patch: editor, requests, `facts` about the edit, seed and settings."""
        return {
            "editor": self.name,
            "requests": ",".join(request.case_id for request in requests),
            **facts,
            "seed": str(self._seed),
            **{f"settings.{name}": str(value) for name, value in asdict(settings).items()},
        }
