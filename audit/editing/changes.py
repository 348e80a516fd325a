"""The changes of a model: the edits of a plan, or a checkpoint that was edited elsewhere.

changes = changes_of(settings, store)
changes.prepare()                    # the cheap checks, before a model is loaded
changes.models(known, progress)      # the edited models, as patches of the base model
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from audit.editing.identity import EditSummary, plan_identity, source_fingerprint
from audit.editing.plan_folder import KeptStep, PlanFolder
from audit.editing.steps import EditedModel, RestrainedEditor, carry_out, edited_models
from audit.editors import EDITORS, load_editor
from audit.editors.contract import ChecksRequests, Editor
from audit.editors.restraints import load_restraint
from audit.edits.plan import EditPlan, make_plan
from audit.edits.requests import EditRequest
from audit.edits.sources import LoadedRequests, load_requests
from audit.engine.known_model import KnownModel
from audit.errors import AuditError
from audit.measures.edit_probes import check_probes
from audit.progress import Once, Progress
from audit.settings.options import AuditSettings
from audit.store import versions
from audit.store.content import Store

DEFAULT_EDITS = "pocket"


class Changes(Protocol):
    """The changes of a model."""

    @property
    def drawn(self) -> LoadedRequests:
        """The edit requests that the edited models hold, in the order in which they were applied."""
        ...

    def prepare(self) -> None:
        """Check everything that can be checked without a model.

        Raises:
            AuditError: the edits, the plan or the editor cannot be used.
        """
        ...

    def fit(self, known: KnownModel) -> None:
        """Leave out the edit requests that cannot be used with this model; called once, before anything is edited.

        Raises:
            AuditError: a request of the user's own cannot be used, or none is left.
        """
        ...

    def summary(self, known: KnownModel) -> EditSummary:
        """The changes as a report shows them."""
        ...

    def identity(self, known: KnownModel) -> dict[str, Any]:
        """All that the edited models depend on, as JSON data."""
        ...

    def models(self, known: KnownModel, progress: Progress) -> tuple[EditedModel, ...]:
        """The edited models; the weights are left as they were."""
        ...


def changes_of(settings: AuditSettings, store: Store | None) -> Changes:
    """The changes that the settings ask for."""
    if settings.edited is not None:
        return OtherCheckpoint(settings, settings.edited, store)
    return PlannedEdits(settings, store)


@dataclass(frozen=True, eq=False)
class PlanParts:
    """An edit plan with its editor, the requests that were loaded, and those drawn for the plan."""

    loaded: LoadedRequests
    editor: Editor
    plan: EditPlan
    drawn: LoadedRequests

    @classmethod
    def of(cls, wanted: AuditSettings, store: Store | None) -> "PlanParts":
        """The parts that the settings ask for."""
        loaded = load_requests(wanted.edits or DEFAULT_EDITS)
        editor = load_editor(wanted.editor, wanted.editor_config, wanted.seed_of_edits, store)
        plan = make_plan(
            wanted.edit_mode,
            wanted.edit_count,
            wanted.edit_batch_size,
            editor.name,
            editor.batches,
            seed=wanted.seed_of_edits,
            available=len(loaded.requests),
        )
        return cls(loaded, editor, plan, loaded.draw(plan.count, wanted.seed_of_edits))


class PlannedEdits:
    """The edits of a plan, made by an editor, or loaded from where an earlier run of the same plan stored them.

    `parts` are made from the settings when they are first needed, unless they are given.
    """

    def __init__(self, settings: AuditSettings, store: Store | None, parts: PlanParts | None = None) -> None:
        self._settings = settings
        self._store = store
        self._made = Once(lambda: parts or PlanParts.of(settings, store))
        self._fitted: PlanParts | None = None
        self._folders: dict[str, PlanFolder | None] = {}

    @property
    def plan(self) -> EditPlan:
        """How many requests a step holds, and which model it edits."""
        return self._parts().plan

    @property
    def editor(self) -> Editor:
        """The editor that makes the edits."""
        return self._parts().editor

    @property
    def drawn(self) -> LoadedRequests:
        return self._parts().drawn

    def prepare(self) -> None:
        self._parts()

    def fit(self, known: KnownModel) -> None:
        parts, editor, lm = self._made(), self.editor, known.lm

        def check(request: EditRequest) -> str:
            check_probes(lm, request)
            return editor.check(lm, request) if isinstance(editor, ChecksRequests) else ""

        drawn = parts.loaded.draw(parts.plan.count, self._settings.seed_of_edits, check)
        count = len(drawn.requests)
        if not count:
            raise AuditError(
                f"no edit request of {drawn.origin} can be used by the editor {editor.name} on {lm.name}; the reason "
                f"for the first one is: {drawn.skipped[len(parts.loaded.skipped)].reason}; give another file or editor."
            )
        plan = replace(parts.plan, count=count, batch_size=min(parts.plan.batch_size, count))
        self._fitted = replace(parts, plan=plan, drawn=drawn)

    def summary(self, known: KnownModel) -> EditSummary:
        wanted, parts = self._settings, self._parts()
        return EditSummary(
            wanted.editor,
            parts.plan.sentence(),
            parts.plan.count,
            parts.drawn.origin,
            restraint=wanted.restraint,
            control=getattr(parts.editor, "control", False),
            patch_from=None if wanted.patch is None or self._kept(known) is None else str(wanted.patch),
            rows=parts.drawn.rows,
            usable_rows=len(parts.drawn.cases),
            missing=max(0, (wanted.edit_count or 0) - parts.plan.count),
        )

    def identity(self, known: KnownModel) -> dict[str, Any]:
        fingerprints = {"weights": known.weights, "tokenizer": known.tokenizer, "edits": self.drawn.fingerprint}
        return plan_identity(known.lm, self.editor, self.plan, self._settings, **fingerprints)

    def models(self, known: KnownModel, progress: Progress) -> tuple[EditedModel, ...]:
        kept = self._kept(known)
        if kept is not None:
            return edited_models(kept, self.plan, self.drawn.requests)
        wanted = self._settings
        restraint = None if wanted.restraint is None else load_restraint(wanted.restraint, wanted.seed_of_edits)
        editor = RestrainedEditor(known.lm, self.editor, restraint, known.weights)
        folder = self._folder(known)
        return carry_out(editor, self.plan, self.drawn.requests, progress, folder=folder, versions=versions())

    def stored(self, known: KnownModel) -> bool:
        """Whether an earlier run of the same plan stored its models, so that nothing is edited."""
        return self._kept(known) is not None

    def choosing(self, requests: Sequence[EditRequest]) -> "PlannedEdits":
        """The same kind of plan for some of its requests, by the same editor."""
        parts, count = self._parts(), len(requests)
        plan = replace(parts.plan, count=count, batch_size=min(parts.plan.batch_size, count))
        parts = replace(parts, plan=plan, drawn=parts.drawn.only(requests))
        return PlannedEdits(replace(self._settings, patch=None), self._store, parts)

    def _parts(self) -> PlanParts:
        return self._fitted or self._made()

    def _kept(self, known: KnownModel) -> tuple[KeptStep, ...] | None:
        """The stored patches of an earlier run of the same plan."""
        folder = self._folder(known)
        return None if folder is None else folder.finished()

    def _folder(self, known: KnownModel) -> PlanFolder | None:
        """The folder of the plan's steps and patches: `--patch`, or else in the store."""
        if known.weights not in self._folders:
            identity = self.identity(known)
            folder = None
            if self._settings.patch is not None:
                folder = PlanFolder(self._settings.patch, identity)
            elif self._store is not None:
                # The code of a third-party editor may change between two runs without any trace here.
                ours = self._settings.editor in EDITORS
                identity = {**identity, "source": source_fingerprint()}
                folder = PlanFolder.in_store(self._store, identity, patch_stays=ours)
            self._folders[known.weights] = folder
        return self._folders[known.weights]


class OtherCheckpoint:
    """A checkpoint, adapter or patch that was edited elsewhere; its edit requests are known if `--edits` names them."""

    def __init__(self, settings: AuditSettings, source: str, store: Store | None) -> None:
        self._settings = settings
        self._store = store
        self._source = source
        self._drawn = Once(self._draw)
        self._model: EditedModel | None = None

    @property
    def drawn(self) -> LoadedRequests:
        return self._drawn()

    def prepare(self) -> None:
        self._drawn()

    def fit(self, known: KnownModel) -> None:
        pass  # nothing is edited

    def summary(self, known: KnownModel) -> EditSummary:
        self._edited_model(known)  # an unreadable checkpoint is refused before anything is asked
        count = len(self.drawn.requests)
        plan = "a checkpoint" + (f" with {count} known edits" if count else "")
        rows, usable = self.drawn.rows, len(self.drawn.cases)
        return EditSummary(self._source, plan, count, self.drawn.origin, checkpoint=True, rows=rows, usable_rows=usable)

    def identity(self, known: KnownModel) -> dict[str, Any]:
        return {
            "weights": known.weights,
            "tokenizer": known.tokenizer,
            "edited": self._edited_model(known).patch.fingerprint,
            "edit requests": self.drawn.fingerprint,
        }

    def models(self, known: KnownModel, progress: Progress) -> tuple[EditedModel, ...]:
        return (self._edited_model(known),)

    def _draw(self) -> LoadedRequests:
        wanted = self._settings
        if wanted.edits is None:
            return LoadedRequests((), (), "")
        loaded = load_requests(wanted.edits)
        return loaded if wanted.edit_count is None else loaded.draw(wanted.edit_count, wanted.seed_of_edits)

    def _edited_model(self, known: KnownModel) -> EditedModel:
        if self._model is None:
            from audit.models.checkpoints import read_checkpoint  # readers of four formats, so only when needed

            self._model = EditedModel(read_checkpoint(known.lm, self._source, store=self._store), self.drawn.requests)
        return self._model
