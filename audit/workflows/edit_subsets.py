"""Subsets of an edit plan: the model after its first edits, or with some of its edits only.

    with plan_run(settings) as run:
        run.audit.under(run.first(8)).verdict("reasoning")            # after the first eight edits
        run.audit.under(run.only([0, 1, 3])).verdict("reasoning")     # with only these three edits

A sequential plan runs once: the model after k steps has the patches of the first k steps. If these patches cannot be
separated (modules that replace each other, a restraint on the whole plan, a batch), the subset is edited again. The
store keeps plans and answers, so an interrupted command continues where it stopped.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from audit.abilities.contract import Row
from audit.abilities.data import Origin, Source
from audit.abilities.data.sources import seeded_order
from audit.audit import Audit
from audit.editing.changes import PlannedEdits
from audit.editing.identity import EditSummary
from audit.editing.steps import EditedModel
from audit.editors.restraints import load_restraint
from audit.edits.sources import LoadedRequests
from audit.engine.known_model import KnownModel
from audit.errors import AuditError
from audit.models.patches import Patch, PatchSequence, identity_patch
from audit.progress import Progress, Watcher
from audit.settings.options import AuditSettings


@dataclass(frozen=True, eq=False)
class EditSubset:
    """Edited models with some of the edits of a plan, as `Changes` of an audit."""

    edited: tuple[EditedModel, ...]
    edit_summary: EditSummary
    plan_requests: LoadedRequests

    @property
    def drawn(self) -> LoadedRequests:
        return self.plan_requests.only(request for model in self.edited for request in model.requests)

    def prepare(self) -> None:
        """Do nothing: the models are already edited."""

    def fit(self, known: KnownModel) -> None:
        """Do nothing: the models are already edited."""

    def summary(self, known: KnownModel) -> EditSummary:
        return self.edit_summary

    def identity(self, known: KnownModel) -> dict[str, Any]:
        patches = [model.patch.fingerprint for model in self.edited]
        return {"weights": known.weights, "tokenizer": known.tokenizer, "patches": patches}

    def models(self, known: KnownModel, progress: Progress) -> tuple[EditedModel, ...]:
        return self.edited


@dataclass(frozen=True)
class FreshRows:
    """The rows of `source` beyond those that a run with this limit and seed asks."""

    source: Source
    limit: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.source.name}, beyond the first {self.limit} items"

    def rows(self, ability_name: str) -> Sequence[Row]:
        rows = self.source.rows(ability_name)
        fresh = seeded_order(len(rows), f"{self.seed}:{ability_name}")[self.limit :]
        if not fresh:
            raise AuditError(
                f"{self.source.name} has no items of {ability_name} beyond the {len(rows)} that the search uses; "
                f"give a --limit below {len(rows)}, which leaves items to confirm the result on."
            )
        return [rows[index] for index in fresh]

    def training_rows(self, ability_name: str) -> Sequence[Row]:
        return self.source.training_rows(ability_name)

    def origin(self, ability_name: str) -> Origin:
        return self.source.origin(ability_name)

    def check(self) -> None:
        self.source.check()


class PlanRun:
    """An edit plan whose edits are made once, and the models with subsets of them.

    Raises:
        AuditError: there is no edit plan (a checkpoint is audited), or every edit has a model of its own.
    """

    def __init__(self, audit: Audit) -> None:
        if not isinstance(audit.changes, PlannedEdits):
            raise AuditError(
                "--edited is a finished checkpoint, whose edits cannot be separated; give an --editor instead."
            )
        audit.prepare()
        self.audit = audit
        self.changes = audit.changes
        self.plan = self.changes.plan
        if self.plan.mode == "instance-single":
            raise AuditError(
                "--edit-mode instance-single makes a model for every edit, so the number of edits has no effect; "
                "use instance-sequential, batch-single or batch-sequential."
            )
        self._made: dict[tuple[int, ...], EditSubset] = {}

    @property
    def counts(self) -> tuple[int, ...]:
        """The possible numbers of edits: those after each step of a sequential plan, or every number for a batch."""
        step = self.plan.batch_size if self.plan.sequential else 1
        return tuple(min(count + step, self.plan.count) for count in range(0, self.plan.count, step))

    def whole(self) -> EditSubset:
        """The model with all edits."""
        return self.only(range(self.plan.count))

    def first(self, count: int) -> EditSubset:
        """The model after the first `count` edits, one of `counts`."""
        if not self.plan.sequential:
            return self.only(range(count))
        (model,) = self.audit.edited
        steps = -(-count // self.plan.batch_size)
        patch = model.patch
        if not isinstance(patch, PatchSequence) or len(patch.patches) != len(self.counts):
            return self.only(range(count))  # the patch does not have one part for each step
        prefix: Patch = PatchSequence(patch.patches[:steps])
        wanted = self.audit.settings
        if wanted.restraint is not None:
            prefix = load_restraint(wanted.restraint, wanted.seed_of_edits).after_plan(self.audit.lm, prefix)
        requests = model.requests[:count]
        cases = {request.case_id for request in requests}
        immediate = {probe: reply for probe, reply in model.immediate.items() if probe.case_id in cases}
        return self._subset(EditedModel(prefix, requests, immediate))

    def only(self, places: Sequence[int]) -> EditSubset:
        """The model with only these edits, by their places in the plan (0 is the first edit)."""
        key = tuple(places)
        if key not in self._made:
            requests = tuple(self.changes.drawn.requests[place] for place in key)
            if len(key) == self.plan.count:
                (model,) = self.audit.edited
            elif not key:
                model = EditedModel(identity_patch(), ())
            else:
                with self.audit.stages("editing", f"{len(key)} edits") as done:
                    (model,) = self.changes.choosing(requests).models(self.audit.known, done)
            self._made[key] = self._subset(model)
        return self._made[key]

    def side_by_side(self, first: EditSubset, second: EditSubset) -> EditSubset:
        """Both edited models, for asking them the same items."""
        return replace(second, edited=(*first.edited, *second.edited))

    def fresh(self) -> FreshRows:
        """Items that no audit of this run asks."""
        wanted = self.audit.settings
        return FreshRows(self.audit.source, wanted.limit, wanted.seed)

    def _subset(self, model: EditedModel) -> EditSubset:
        count = len(model.requests)
        summary = self.changes.summary(self.audit.known)
        if count:
            size = count if self.plan.mode == "batch-single" else min(self.plan.batch_size, count)
            summary = replace(summary, plan=replace(self.plan, count=count, batch_size=size).sentence())
        return EditSubset((model,), replace(summary, edit_count=count), self.changes.drawn)


@contextmanager
def plan_run(settings: AuditSettings, watcher: Watcher | None = None) -> Iterator[PlanRun]:
    """The edit plan of the settings; with --no-store, a temporary folder stores what its audits share."""
    with ExitStack() as stack:
        # The number of edits at which the model collapses is a result, and so is a first edit that changes nothing.
        audit = Audit(replace(settings, triage=False, allow_unchanged=True), watcher=watcher)
        if not settings.use_store:
            audit.share_folder(Path(stack.enter_context(TemporaryDirectory(prefix="audit-"))))
        yield PlanRun(audit)
