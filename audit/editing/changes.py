"""What was done to the model: the edits of a plan, carried out here, or a checkpoint that somebody else edited.

changes = changes_of(settings, store)
changes.prepare()                    # the cheap checks, before a model is loaded
changes.models(known, progress)      # the edited models, as patches over the untouched one
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from audit.editing.identity import plan_identity, source_fingerprint
from audit.editing.plan_folder import KeptStep, PlanFolder
from audit.editing.steps import EditedModel, RestrainedEditor, carry_out, edited_models
from audit.editors import EDITORS, load_editor
from audit.editors.contract import Editor
from audit.editors.restraints import load_restraint
from audit.edits.plan import EditPlan, make_plan
from audit.edits.requests import EditRequest
from audit.edits.rows import SkippedRow
from audit.edits.sources import LoadedRequests, load_requests, requests_fingerprint
from audit.engine.known_model import KnownModel
from audit.progress import Progress
from audit.settings.options import AuditSettings
from audit.store import versions
from audit.store.content import Store

DEFAULT_EDITS = "pocket"


@dataclass(frozen=True)
class Told:
    """What a report says about the changes. `origin` is where the edit requests came from."""

    method: str
    plan: str
    edit_count: int
    origin: str
    restraint: str | None = None
    patch_from: str | None = None
    checkpoint: bool = False  # whether `method` is a checkpoint that somebody else edited


class Changes(Protocol):
    """What was done to the model."""

    @property
    def requests(self) -> tuple[EditRequest, ...]:
        """The edit requests that the edited models hold, in the order in which they were applied."""
        ...

    @property
    def others(self) -> tuple[EditRequest, ...]:
        """The usable requests of the same file that were left out."""
        ...

    @property
    def skipped(self) -> Sequence[SkippedRow]:
        """Rows of the edits file that could not be used."""
        ...

    @property
    def requests_fingerprint(self) -> str: ...

    def prepare(self) -> None:
        """Check everything that can be wrong and needs no model."""
        ...

    def told(self, known: KnownModel) -> Told: ...

    def identity(self, known: KnownModel) -> dict[str, Any]:
        """All that the edited models depend on, as JSON holds it."""
        ...

    def models(self, known: KnownModel, progress: Progress) -> tuple[EditedModel, ...]:
        """The edited models; the weights are left as they were."""
        ...


def changes_of(settings: AuditSettings, store: Store | None) -> Changes:
    """What the settings ask for."""
    return PlannedEdits(settings, store) if settings.edited is None else OtherCheckpoint(settings, settings.edited)


class PlannedEdits:
    """The edits of a plan, made by an editor, or taken from where an earlier run of the same plan kept them."""

    def __init__(self, settings: AuditSettings, store: Store | None) -> None:
        self._settings = settings
        self._store = store
        self._folders: dict[str, PlanFolder | None] = {}

    @cached_property
    def plan(self) -> EditPlan:
        """How many requests go into the model at once."""
        wanted = self._settings
        return make_plan(
            wanted.edit_mode,
            wanted.edit_count,
            wanted.edit_batch_size,
            self.editor.name,
            self.editor.batches,
            seed=wanted.seed,
            available=len(self._loaded.requests),
        )

    @cached_property
    def editor(self) -> Editor:
        wanted = self._settings
        return load_editor(wanted.editor, wanted.editor_config, wanted.seed, self._store)

    @property
    def requests(self) -> tuple[EditRequest, ...]:
        return self._drawn.requests

    @property
    def others(self) -> tuple[EditRequest, ...]:
        return _left_out(self._loaded, self.requests)

    @property
    def skipped(self) -> Sequence[SkippedRow]:
        return self._loaded.skipped

    @property
    def requests_fingerprint(self) -> str:
        return self._drawn.fingerprint

    def prepare(self) -> None:
        self._loaded, self.editor, self.plan, self.requests  # noqa: B018 - each is computed when first asked for

    def told(self, known: KnownModel) -> Told:
        wanted = self._settings
        return Told(
            wanted.editor,
            self.plan.sentence(),
            self.plan.count,
            self._loaded.origin,
            restraint=wanted.restraint,
            patch_from=None if wanted.patch is None or self._kept(known) is None else str(wanted.patch),
        )

    def identity(self, known: KnownModel) -> dict[str, Any]:
        fingerprints = {"weights": known.weights, "tokenizer": known.tokenizer, "edits": self.requests_fingerprint}
        return plan_identity(known.lm, self.editor, self.plan, self._settings, **fingerprints)

    def models(self, known: KnownModel, progress: Progress) -> tuple[EditedModel, ...]:
        kept = self._kept(known)
        if kept is not None:
            return edited_models(kept, self.plan, self.requests)
        wanted = self._settings
        restraint = None if wanted.restraint is None else load_restraint(wanted.restraint, wanted.seed)
        editor = RestrainedEditor(known.lm, self.editor, restraint, known.weights)
        folder = self._folder(known)
        return carry_out(editor, self.plan, self.requests, progress, folder=folder, versions=versions())

    def choosing(self, requests: Sequence[EditRequest]) -> "PlannedEdits":
        """The same kind of plan for these of its requests, by the same editor."""
        plan, chosen = self.plan, tuple(requests)
        size = min(plan.batch_size, len(chosen)) if plan.mode == "batch-sequential" else None
        wanted = replace(self._settings, edit_mode=plan.mode, edit_count=len(chosen), edit_batch_size=size, patch=None)
        other = PlannedEdits(wanted, self._store)
        other.editor = self.editor
        other._loaded = self._loaded
        other._drawn = replace(self._drawn, requests=chosen, fingerprint=requests_fingerprint(chosen))
        return other

    @cached_property
    def _loaded(self) -> LoadedRequests:
        return load_requests(self._settings.edits or DEFAULT_EDITS)

    @cached_property
    def _drawn(self) -> LoadedRequests:
        return self._loaded.draw(self.plan.count, self._settings.seed)

    def _kept(self, known: KnownModel) -> tuple[KeptStep, ...] | None:
        """The finished patch of an earlier run of the same plan."""
        folder = self._folder(known)
        return None if folder is None else folder.finished()

    def _folder(self, known: KnownModel) -> PlanFolder | None:
        """Where the steps of the plan and its patch are kept: `--patch`, or else the store."""
        if known.weights not in self._folders:
            identity = self.identity(known)
            folder = None
            if self._settings.patch is not None:
                folder = PlanFolder(self._settings.patch, identity)
            elif self._store is not None:
                # Somebody else's editor may be another from one run to the next, and nothing here would tell.
                ours = self._settings.editor in EDITORS
                identity = {**identity, "source": source_fingerprint()}
                folder = PlanFolder.in_store(self._store, identity, patch_stays=ours)
            self._folders[known.weights] = folder
        return self._folders[known.weights]


class OtherCheckpoint:
    """A checkpoint, adapter or patch that somebody else made; the edits it holds, where a file tells them."""

    def __init__(self, settings: AuditSettings, source: str) -> None:
        self._settings = settings
        self._source = source

    @cached_property
    def _loaded(self) -> LoadedRequests | None:
        return None if self._settings.edits is None else load_requests(self._settings.edits)

    @cached_property
    def _drawn(self) -> LoadedRequests | None:
        count = self._settings.edit_count
        if self._loaded is None or count is None:
            return self._loaded
        return self._loaded.draw(count, self._settings.seed)

    @property
    def requests(self) -> tuple[EditRequest, ...]:
        return () if self._drawn is None else self._drawn.requests

    @property
    def others(self) -> tuple[EditRequest, ...]:
        return () if self._loaded is None else _left_out(self._loaded, self.requests)

    @property
    def skipped(self) -> Sequence[SkippedRow]:
        return () if self._loaded is None else self._loaded.skipped

    @property
    def requests_fingerprint(self) -> str:
        return "" if self._drawn is None else self._drawn.fingerprint

    def prepare(self) -> None:
        self.requests  # noqa: B018 - computed when first asked for

    def told(self, known: KnownModel) -> Told:
        self._model(known)  # what is wrong with it is said before anything is asked
        count = len(self.requests)
        plan = "a checkpoint" + (f" with {count} known edits" if count else "")
        origin = "" if self._loaded is None else self._loaded.origin
        return Told(self._source, plan, count, origin, checkpoint=True)

    def identity(self, known: KnownModel) -> dict[str, Any]:
        (model,) = self.models(known, lambda done, total: None)
        return {
            "weights": known.weights,
            "tokenizer": known.tokenizer,
            "edited": model.patch.fingerprint,
            "edit requests": self.requests_fingerprint,
        }

    def models(self, known: KnownModel, progress: Progress) -> tuple[EditedModel, ...]:
        return (self._model(known),)

    def _model(self, known: KnownModel) -> EditedModel:
        if self._read is None:
            from audit.models.checkpoints import read_checkpoint  # the readers of four formats, so only when needed

            self._read = EditedModel(read_checkpoint(known.lm, self._source), self.requests)
        return self._read

    _read: EditedModel | None = None


def _left_out(loaded: LoadedRequests, drawn: Sequence[EditRequest]) -> tuple[EditRequest, ...]:
    taken = frozenset(drawn)
    return tuple(request for request in loaded.requests if request not in taken)
