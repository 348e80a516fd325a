"""The audit of one edited model: load, edit once, ask before and after, compare.

    audit = Audit(model="pocket-gpt2", editor="memit", edit_count=10)
    audit.verdict("reasoning", max_drop=0.05).outcome
    audit.report().save()

Everything is done when it is first asked for, and once. The model is edited inside context managers only, so between
two calls its weights are what they were when it was loaded; `report` proves that by fingerprint.
"""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from audit.abilities import ABILITIES, load_ability
from audit.abilities.contract import Ability, AskedItems, Item
from audit.abilities.sources import PocketSource, Source, items
from audit.editors import load_editor
from audit.editors.contract import Editor
from audit.editors.restraint import load_restraint
from audit.edits.plan import EditPlan, make_plan
from audit.edits.requests import EditRequest
from audit.edits.sources import LoadedRequests, load_requests
from audit.measures.edit_success import EditScores
from audit.measures.integrity import Integrity
from audit.models.fingerprints import content_fingerprint, tokenizer_fingerprint, weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.options import DEFAULT_MARGIN, AuditSettings
from audit.reports.run import AbilityRow, EditScore, IntegrityRow, RunHeader, RunReport, SkippedEdit
from audit.session.asking import ENGINE_VERSION, Raw, answers_key, ask_raw, read_raw
from audit.session.comparison import compare, records
from audit.session.editing import (
    EditedModel,
    RestrainedEditor,
    carry_out,
    edited_models,
    measure_integrity_of,
    score_edits_of,
)
from audit.session.identity import plan_identity, versions
from audit.session.plan_folder import KeptStep, PlanFolder
from audit.session.reading import fixed_texts
from audit.store import Store, default_store

Progress = Callable[[int, int], None]


class Watcher(Protocol):
    """Shows what is going on: `with watcher.stage("editing") as done: done(3, 10)`."""

    def stage(self, name: str) -> AbstractContextManager[Progress]: ...


class Audit:
    """One model, one set of edits, and everything measured so far.

    Args:
        settings: what to audit; leave it out and give its fields as keywords instead, as in the example above.
        source: where the abilities' rows come from; the pocket world unless another is given.
        watcher: shows progress, where somebody watches.

    Every method raises `AuditError` for what a user can mend.
    """

    def __init__(
        self,
        settings: AuditSettings | None = None,
        *,
        source: Source | None = None,
        watcher: Watcher | None = None,
        **options: Any,
    ) -> None:
        if settings is not None and options:
            raise TypeError("give settings, or options by name, not both")
        self.settings = settings or AuditSettings(**options)
        self.source = source or PocketSource()
        self.watcher = watcher
        self.started = datetime.now(UTC)
        self.seconds: dict[str, float] = {}
        self._rows: dict[str, AbilityRow] = {}
        self._asked: dict[str, tuple[Ability, AskedItems, tuple[AskedItems, ...], bool]] = {}

    def prepare(self) -> None:
        """Load and check everything that can be wrong before anything long begins: the cheap things first."""
        self._loaded, self._editor, self.plan  # noqa: B018 - each is computed when first asked for
        self._lm, self._kept  # noqa: B018

    @cached_property
    def plan(self) -> EditPlan:
        """How many requests go into the model at once."""
        wanted = self.settings
        return make_plan(
            wanted.edit_mode,
            wanted.edit_count,
            wanted.edit_batch_size,
            self._editor.name,
            self._editor.batches,
            seed=wanted.seed,
            available=len(self._loaded.requests),
        )

    @cached_property
    def requests(self) -> tuple[EditRequest, ...]:
        """The edit requests of this run, in the order in which they are applied."""
        return self._drawn.requests

    @cached_property
    def header(self) -> RunHeader:
        """What is audited and how."""
        return RunHeader(
            started=self.started.isoformat(timespec="seconds"),
            model=self.settings.model,
            revision=self._lm.revision,
            editor=self.settings.editor,
            edits=self._loaded.origin,
            plan=self.plan.sentence(),
            edit_count=self.plan.count,
            device=str(self._lm.device),
            dtype=str(self._lm.dtype).removeprefix("torch."),
            seed=self.settings.seed,
            limit=self.settings.limit,
            restraint=self.settings.restraint,
            patch_from=str(self.settings.patch) if self._kept is not None else None,
        )

    @property
    def lm(self) -> LanguageModel:
        """The model; unedited, since edits live inside context managers only."""
        return self._lm

    @property
    def edited(self) -> tuple[EditedModel, ...]:
        """What the plan led to: one patch, or one a request under instance-single."""
        return self._edited

    def signature(self, abilities: Sequence[str] = ()) -> str:
        """sha256 over all that the results depend on: settings, weights, edits, the editor's settings, versions."""
        wanted = self.settings
        return content_fingerprint(
            {
                **self._identity,
                "abilities": sorted(abilities),
                "limit": wanted.limit,
                "seed": wanted.seed,
                "dtype": str(self._lm.dtype),
                "engine": ENGINE_VERSION,
            }
        )

    @property
    def measured(self) -> bool:
        """Whether there is anything to report."""
        return bool(self._rows) or "edit_scores" in self.__dict__ or "integrity" in self.__dict__

    def verdict(self, ability: str, max_drop: float = DEFAULT_MARGIN) -> AbilityRow:
        """Judge one ability; `max_drop` is the margin in score points unless the settings have another for it."""
        margin = self.settings.margins.get(ability, max_drop)
        row = self._rows.get(ability)
        if row is None or row.margin != margin:
            asked, base, edited, from_store = self._both(ability)
            row = compare(asked, base, edited, margin=margin, seed=self.settings.seed, base_from_store=from_store)
            self._rows[ability] = row
        return row

    @cached_property
    def edit_scores(self) -> EditScores:
        """Whether the edits took, carried over and stayed local, before and after."""
        edited = self._edited
        with self._timed("edit scores"), self._stage("asking about the edits") as done:
            return score_edits_of(self._lm, edited, done)

    @cached_property
    def integrity(self) -> Integrity:
        """Whether the edited weights are sound; of several edited models, the worst."""
        edited = self._edited
        with self._timed("integrity"), self._stage("integrity"):
            return measure_integrity_of(self._lm, edited, fixed_texts(self.settings.model))

    def run(self, abilities: Sequence[str] | None = None, max_drop: float = DEFAULT_MARGIN) -> RunReport:
        """Measure everything (or just these abilities, and the edit itself) and report."""
        self.prepare()
        for ability in abilities or ABILITIES:
            if ability not in self._rows:  # a margin that was asked for before stands
                self.verdict(ability, max_drop)
        self.edit_scores, self.integrity  # noqa: B018 - each is measured when first asked for
        return self.report()

    def report(self) -> RunReport:
        """All that was measured so far, and the proof that the weights are what they were."""
        order = {name: place for place, name in enumerate(ABILITIES)}
        rows = sorted(self._rows.values(), key=lambda row: order.get(row.ability, len(order)))
        kept = [records(ability, base, edited) for ability, base, edited, _ in self._asked.values()]
        return RunReport(
            header=self.header,
            abilities=tuple(rows),
            edit_scores=self.edit_score_rows() if "edit_scores" in self.__dict__ else (),
            integrity=(*(self.integrity_rows() if "integrity" in self.__dict__ else ()), self._reverted()),
            skipped=tuple(SkippedEdit(s.file, s.line, s.field, s.reason) for s in self._loaded.skipped),
            seconds=self.seconds,
            settings={key: str(v) if isinstance(v, Path) else v for key, v in asdict(self.settings).items()},
            fingerprints={
                "weights": self._weights,
                "tokenizer": self._tokenizer,
                "edits": self._drawn.fingerprint,
                **({"patch": self._edited[0].patch.fingerprint} if len(self.__dict__.get("_edited", ())) == 1 else {}),
            },
            versions={"python": platform.python_version(), **versions()},
            notes=self._notes(),
            items=tuple(item for one in kept for item in one),
        )

    def edit_score_rows(self) -> tuple[EditScore, ...]:
        """The edit's own scores as a report holds them; what no request can measure is left out."""
        return tuple(
            EditScore(measure, protocol, rate.value, rate.n, rate.lower, rate.upper)
            for measure, protocol, rate in self.edit_scores.entries()
            if rate is not None
        )

    def integrity_rows(self) -> tuple[IntegrityRow, ...]:
        """The checks of the edited weights as a report holds them."""
        return tuple(IntegrityRow(c.name, c.value, c.sound, c.sentence) for c in self.integrity.checks)

    @cached_property
    def _loaded(self) -> LoadedRequests:
        return load_requests(self.settings.edits)

    @cached_property
    def _drawn(self) -> LoadedRequests:
        return self._loaded.draw(self.plan.count, self.settings.seed)

    @cached_property
    def _store(self) -> Store | None:
        if not self.settings.use_store:
            return None
        return default_store() if self.settings.store is None else Store(self.settings.store)

    @cached_property
    def _editor(self) -> Editor:
        wanted = self.settings
        return load_editor(wanted.editor, wanted.editor_config, wanted.seed, self._store)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        fingerprints = {"weights": self._weights, "tokenizer": self._tokenizer, "edits": self._drawn.fingerprint}
        return plan_identity(self._lm, self._editor, self.plan, self.settings, **fingerprints)

    @cached_property
    def _folder(self) -> PlanFolder | None:
        """Where the patch, or the steps of a plan under way, are kept."""
        if self.settings.patch is not None:
            return PlanFolder(self.settings.patch, self._identity, stays=True)
        if self._store is None or self.plan.batch_size == self.plan.count:
            return None
        return PlanFolder.in_store(self._store, self._identity)

    @cached_property
    def _kept(self) -> tuple[KeptStep, ...] | None:
        """The finished patch of an earlier run, where `--patch` has one."""
        return None if self.settings.patch is None or self._folder is None else self._folder.finished()

    @cached_property
    def _lm(self) -> LanguageModel:
        self.requests  # noqa: B018 - a count that the source cannot fill is cheaper to find out than a model is to load
        wanted = self.settings
        with self._timed("loading"):
            return load_language_model(wanted.model, revision=wanted.revision, device=wanted.device, dtype=wanted.dtype)

    @cached_property
    def _weights(self) -> str:
        return weights_fingerprint(self._lm)

    @cached_property
    def _tokenizer(self) -> str:
        return tokenizer_fingerprint(self._lm)

    @cached_property
    def _edited(self) -> tuple[EditedModel, ...]:
        self._weights  # noqa: B018 - what the weights were before anything touched them
        with self._timed("editing"), self._stage(f"{self._editor.name} edits") as done:
            if self._kept is not None:
                return edited_models(self._kept, self.plan, self.requests)
            wanted = self.settings
            restraint = None if wanted.restraint is None else load_restraint(wanted.restraint, wanted.seed)
            editor = RestrainedEditor(self._lm, self._editor, restraint, self._weights)
            return carry_out(editor, self.plan, self.requests, done, folder=self._folder, versions=versions())

    def _notes(self) -> tuple[str, ...]:
        resumed = sum(model.resumed for model in self.__dict__.get("_edited", ()))
        if not resumed:
            return ()
        return (f"edits: {resumed} of {self.plan.count} were taken over from a run that was interrupted",)

    def _both(self, name: str) -> tuple[Ability, AskedItems, tuple[AskedItems, ...], bool]:
        """The ability, the base answers, those of each edited model, and whether the base ones came from the store."""
        if name not in self._asked:
            ability = load_ability(name)
            questions = items(ability, self.source, self.settings.limit, self.settings.seed)
            base, from_store = self._base_raw(ability, questions)
            edited: list[AskedItems] = []
            for number, model in enumerate(self._edited, start=1):
                which = f" {number}/{len(self._edited)}" if len(self._edited) > 1 else ""
                stage = self._stage(f"{name}, edited{which}")
                with self._timed("edited answers"), stage as done, model.patch.applied(self._lm):
                    raw = ask_raw(self._lm, ability, questions, done)
                edited.append(read_raw(ability, questions, raw))
            self._asked[name] = (ability, read_raw(ability, questions, base), tuple(edited), from_store)
        return self._asked[name]

    def _base_raw(self, ability: Ability, questions: tuple[Item, ...]) -> tuple[Raw, bool]:
        """The base model's raw output, and whether it came from the store."""
        computed = False

        def compute() -> Raw:
            nonlocal computed
            computed = True
            with self._stage(f"{ability.name}, base") as done:
                return ask_raw(self._lm, ability, questions, done)

        with self._timed("base answers"):
            if self._store is None:
                return compute(), False
            key = answers_key(self._lm, self._weights, self._tokenizer, ability, questions)
            raw: Raw = self._store.get_or_compute(key, compute)
            return raw, not computed

    def _reverted(self) -> IntegrityRow:
        same = weights_fingerprint(self._lm) == self._weights
        sentence = (
            "After the run the weights are what they were before it, bit for bit."
            if same
            else "After the run the weights differ from what they were before it: a patch was not taken back."
        )
        return IntegrityRow("weights restored", same, same, sentence)

    def _stage(self, name: str) -> AbstractContextManager[Progress]:
        return nullcontext(_unwatched) if self.watcher is None else self.watcher.stage(name)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def _unwatched(done: int, total: int) -> None:
    """Nobody watches."""
