"""One run of edits, looked at from inside: the model after the first of them, or with some of them only.

    with opened(settings) as run:
        run.audit.under(run.first(8)).verdict("reasoning")            # after eight of the plan's edits
        run.audit.under(run.only([0, 1, 3])).verdict("reasoning")     # with these three requests only

A sequential plan is carried out once: the model after k steps is the first k of the steps' patches. Where that cannot
be had (modules that take each other's place, a restraint that acts on a whole plan, a batch) the shorter plan is
carried out for itself. The store keeps plans and answers, so an interrupted command goes on where it ended.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from audit.abilities.contract import Row
from audit.abilities.data.origin import Origin, Source
from audit.abilities.data.sources import seeded_order
from audit.audit import Audit
from audit.editing.changes import PlannedEdits, Told
from audit.editing.steps import EditedModel
from audit.editors.restraints import load_restraint
from audit.edits.requests import EditRequest
from audit.edits.rows import SkippedRow
from audit.edits.sources import requests_fingerprint
from audit.engine.known_model import KnownModel
from audit.errors import AuditError
from audit.models.patches import Patch, PatchSequence, identity_patch
from audit.progress import Progress, Watcher
from audit.settings.options import AuditSettings


@dataclass(frozen=True, eq=False)
class MadeEdits:
    """Changes that are there already: edited models, and what a report says of them. Fulfils `Changes`."""

    edited: tuple[EditedModel, ...]
    words: Told
    skipped: Sequence[SkippedRow] = ()
    others: tuple[EditRequest, ...] = ()

    @property
    def requests(self) -> tuple[EditRequest, ...]:
        return tuple(dict.fromkeys(request for model in self.edited for request in model.requests))

    @property
    def requests_fingerprint(self) -> str:
        return requests_fingerprint(self.requests)

    def prepare(self) -> None:
        """Nothing can be wrong any more."""

    def told(self, known: KnownModel) -> Told:
        return self.words

    def identity(self, known: KnownModel) -> dict[str, Any]:
        patches = [model.patch.fingerprint for model in self.edited]
        return {"weights": known.weights, "tokenizer": known.tokenizer, "patches": patches}

    def models(self, known: KnownModel, progress: Progress) -> tuple[EditedModel, ...]:
        return self.edited


@dataclass(frozen=True)
class FreshRows:
    """What `source` holds beyond the items that a run with this limit and seed asks."""

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
                f"give a --limit below {len(rows)}, so that what it finds can be confirmed on others."
            )
        return [rows[index] for index in fresh]

    def training_rows(self, ability_name: str) -> Sequence[Row]:
        return self.source.training_rows(ability_name)

    def origin(self, ability_name: str) -> Origin:
        return self.source.origin(ability_name)

    def check(self) -> None:
        self.source.check()


class PlanRun:
    """A plan's edits, made once.

    Raises:
        AuditError: there is no plan (a checkpoint is audited), or its edits never meet in one model.
    """

    def __init__(self, audit: Audit) -> None:
        if not isinstance(audit.changes, PlannedEdits):
            raise AuditError("--edited is one finished checkpoint; name an --editor, whose edits can be taken apart.")
        audit.prepare()
        self.audit = audit
        self.changes = audit.changes
        self.plan = self.changes.plan
        if self.plan.mode == "instance-single":
            raise AuditError(
                "--edit-mode instance-single puts every edit into a model of its own, so there is nothing to count; "
                "use instance-sequential, batch-single or batch-sequential."
            )
        self._made: dict[tuple[int, ...], MadeEdits] = {}

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of edits at which there is a model to ask: after each step, or of a batch all."""
        step = self.plan.batch_size if self.plan.sequential else 1
        return tuple(min(count + step, self.plan.count) for count in range(0, self.plan.count, step))

    def whole(self) -> MadeEdits:
        """The plan as it is."""
        return self.only(range(self.plan.count))

    def first(self, count: int) -> MadeEdits:
        """The model after the first `count` edits, one of `counts`."""
        if not self.plan.sequential:
            return self.only(range(count))
        (model,) = self.audit.edited
        steps = -(-count // self.plan.batch_size)
        patch = model.patch
        if not isinstance(patch, PatchSequence) or len(patch.patches) != len(self.counts):
            return self.only(range(count))  # the steps are not all there
        prefix: Patch = PatchSequence(patch.patches[:steps])
        wanted = self.audit.settings
        if wanted.restraint is not None:
            prefix = load_restraint(wanted.restraint, wanted.seed).after_plan(self.audit.lm, prefix)
        requests = model.requests[:count]
        cases = {request.case_id for request in requests}
        immediate = {question: reply for question, reply in model.immediate.items() if question.case_id in cases}
        return self._told(EditedModel(prefix, requests, immediate))

    def only(self, places: Sequence[int]) -> MadeEdits:
        """The plan carried out for some of its requests, by place in its order (0 is the first edit)."""
        key = tuple(places)
        if key not in self._made:
            requests = tuple(self.changes.requests[place] for place in key)
            if len(key) == self.plan.count:
                (model,) = self.audit.edited
            elif not key:
                model = EditedModel(identity_patch(), ())
            else:
                with self.audit.stages("editing", f"{len(key)} edits") as done:
                    (model,) = self.changes.choosing(requests).models(self.audit.known, done)
            self._made[key] = self._told(model)
        return self._made[key]

    def side_by_side(self, first: MadeEdits, second: MadeEdits) -> MadeEdits:
        """Two edited models to ask the same items."""
        return replace(second, edited=(*first.edited, *second.edited))

    def fresh(self) -> FreshRows:
        """Items that no audit of this run asks."""
        wanted = self.audit.settings
        return FreshRows(self.audit.source, wanted.limit, wanted.seed)

    def _told(self, model: EditedModel) -> MadeEdits:
        count = len(model.requests)
        words = self.changes.told(self.audit.known)
        if count:
            size = count if self.plan.mode == "batch-single" else min(self.plan.batch_size, count)
            words = replace(words, plan=replace(self.plan, count=count, batch_size=size).sentence())
        return MadeEdits((model,), replace(words, edit_count=count), self.changes.skipped, self.changes.others)


@contextmanager
def opened(settings: AuditSettings, watcher: Watcher | None = None, source: Source | None = None) -> Iterator[PlanRun]:
    """The plan of the settings, ready to be carried out; under --no-store a passing folder keeps what is shared."""
    with ExitStack() as stack:
        # Where a model collapsed is one of the things to find: each is asked in full.
        audit = Audit(replace(settings, triage=False), source=source, watcher=watcher)
        if not settings.use_store:
            audit.share_folder(Path(stack.enter_context(TemporaryDirectory(prefix="audit-"))))
        yield PlanRun(audit)
