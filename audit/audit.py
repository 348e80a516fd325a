"""The audit of one edited model: load, edit once, ask before and after, compare.

    audit = Audit(model="pocket-gpt2", editor="memit", edit_count=10)
    audit.verdict("reasoning", max_drop=0.05).outcome
    audit.report().save()

Everything is done when it is first asked for, and once. The model is edited inside context managers only, so between
two calls its weights are what they were when it was loaded; `report` proves that by fingerprint.
"""

import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from audit.abilities import ABILITIES
from audit.abilities.contract import Answers
from audit.abilities.data import Source
from audit.abilities.data.sources import source_of_data
from audit.abilities.presentation import require_chat_template
from audit.answering.crew import Crew
from audit.answering.interview import Interview
from audit.answering.items import data_revisions, questions_of
from audit.answering.locality import Locality
from audit.answering.paired_answers import PairedAnswers
from audit.answering.reuse import Reuse
from audit.answering.reuse_counts import taken_over
from audit.answering.run_answers import AskedAbilities
from audit.answering.triage import triage
from audit.editing.changes import Changes, Told, changes_of
from audit.editing.measures import Soundness, edit_score_rows, score_edits_of, weights_restored
from audit.editing.steps import EditedModel
from audit.edits.requests import EditRequest
from audit.engine.known_model import ENGINE_VERSION, KnownModel
from audit.errors import CollapsedError, UnaskedError
from audit.measures.edit_success import EditScores
from audit.measures.flips import Mentions
from audit.measures.integrity import Integrity, fixed_texts
from audit.measures.locality_topics import topics_of
from audit.models.fingerprints import content_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.models.patches import Patch
from audit.progress import Stages, Watcher
from audit.reports.ability_rows import records, row_of
from audit.reports.reuse import TakenOver
from audit.reports.rows import AbilityRow, EditScore, IntegrityRow, RunHeader, RunReport, SkippedEdit
from audit.run_header import run_header
from audit.settings.declaration import Effect
from audit.settings.options import DEFAULT_MARGIN, AuditSettings
from audit.store import versions
from audit.store.answer_log import AnswerLog
from audit.store.content import Store, store_at
from audit.verdicts.margins import Margin, margin_of
from audit.verdicts.noise import NoiseFloor
from audit.workflows.calibrate import noise_under

MEASURES = ("edit_scores", "integrity", "locality")  # what is measured besides the abilities


class Audit:
    """One model, one set of edits, and everything measured so far.

    Args:
        settings: what to audit; leave it out and give its fields as keywords instead, as in the example above.
        source: where the abilities' rows come from; the pocket world unless another is given.
        watcher: shows progress, where somebody watches.
        crew: the processes that run this audit together, of which this is one; each calls the same methods in turn.

    Every method raises `AuditError` for what a user can mend.
    """

    def __init__(
        self,
        settings: AuditSettings | None = None,
        *,
        source: Source | None = None,
        watcher: Watcher | None = None,
        crew: Crew | None = None,
        **options: Any,
    ) -> None:
        if settings is not None and options:
            raise TypeError("give settings, or options by name, not both")
        self.settings = settings or AuditSettings(**options)
        self.source = source or source_of_data(self.settings.data, self._store)
        self.stages = Stages(watcher)
        self.crew = crew or Crew()
        self.started = datetime.now(UTC)
        self._rows: dict[str, tuple[Margin, AbilityRow]] = {}  # by ability: the margin asked for, and what came of it
        self._asked = AskedAbilities(self._interview, self.settings)
        self._logs: dict[str, AnswerLog] = {}

    def watch(self, watcher: Watcher | None) -> None:
        """Show from now on to `watcher` what is going on."""
        self.stages.watcher = watcher

    def prepare(self) -> None:
        """Load and check everything that can be wrong before anything long begins: the cheap things first."""
        self.crew.together(self._check)

    def share_folder(self, folder: Path) -> None:
        """Keep in `folder` what several processes of this run share, although nothing is kept between runs."""
        self.__dict__["_store"] = Store(folder)

    def under(self, changes: Changes, *, limit: int | None = None, source: Source | None = None) -> "Audit":
        """An audit of other changes of the same model, which is loaded once; what is kept of answers is shared."""
        settings = replace(self.settings, limit=limit or self.settings.limit)
        other = Audit(settings, source=source or self.source, watcher=self.stages.watcher, crew=self.crew)
        other._store, other._known, other._logs, other.changes = self._store, self._known, self._logs, changes
        return other

    def _check(self) -> None:
        self.source.check()
        self.changes.prepare()
        self._told  # noqa: B018 - computed when first asked for
        if self.settings.chat_template:
            require_chat_template(self.lm.tokenizer, self.settings.model)

    @cached_property
    def changes(self) -> Changes:
        """What is done to the model: the edits of a plan, or a checkpoint that somebody else edited."""
        return changes_of(self.settings, self._store)

    @property
    def requests(self) -> tuple[EditRequest, ...]:
        """The edit requests of this run, in the order in which they are applied."""
        return self.changes.requests

    @cached_property
    def header(self) -> RunHeader:
        """What is audited and how."""
        return run_header(self.settings, self._told, self.lm, data=self.source.name, started=self.started)

    @property
    def known(self) -> KnownModel:
        """The model with the fingerprints of what was loaded."""
        return self._known

    @property
    def lm(self) -> LanguageModel:
        """The model; unedited, since edits live inside context managers only."""
        return self._known.lm

    @property
    def edited(self) -> tuple[EditedModel, ...]:
        """What the plan led to: one patch, or one a request under instance-single."""
        return self._edited

    def signature(self, abilities: Sequence[str] = ()) -> str:
        """sha256 over everything that the results depend on: settings, weights, edits, the editor and versions."""
        asked = self.settings.by_effect(Effect.ANSWERS, Effect.ITEMS)
        return content_fingerprint(
            {
                **self.changes.identity(self._known),
                "abilities": sorted(abilities),
                **{name.replace("_", " "): value for name, value in asked.items()},
                "data": self.source.name,
                **data_revisions(self.source, abilities or ABILITIES),
                "dtype": str(self.lm.dtype),
                "engine": ENGINE_VERSION,
            }
        )

    @property
    def unasked(self) -> dict[str, str]:
        """The abilities that could not be asked, with the reason."""
        return self._asked.unasked

    @property
    def measured(self) -> bool:
        """Whether there is anything to report."""
        told = self._rows or self.unasked or self.__dict__.get("collapse")
        return bool(told) or not self.__dict__.keys().isdisjoint(MEASURES)

    def verdict(self, ability: str, max_drop: float | str | Margin = DEFAULT_MARGIN) -> AbilityRow:
        """Judge one ability; `max_drop` is the margin, 0.05 or "90%", unless the settings have another for it.

        Raises:
            UnaskedError: this ability's questions cannot be had or asked; others may go on, but the run cannot pass.
            CollapsedError: the edited model is no working language model; no ability was asked, and the run fails.
            AuditError: the margin is under the noise floor that `audit calibrate` found; nothing was asked.
        """
        margin, noise = self._allowed(ability, max_drop)
        if ability not in self._rows or self._rows[ability][0] != margin:
            if self.collapse is not None:
                raise CollapsedError(f"{self.collapse} No ability was asked; --no-triage asks them all the same.")
            row = self._judged(ability, margin)
            self._rows[ability] = margin, replace(row, noise_floor=noise.floor, noise_items=noise.n) if noise else row
        return self._rows[ability][1]

    def _allowed(self, ability: str, max_drop: float | str | Margin) -> tuple[Margin, NoiseFloor | None]:
        margin = self.settings.margins.get(ability) or margin_of(max_drop)
        told = self._log_of(None), ability, self.settings, self.source.name
        return margin, self.crew.together(lambda: noise_under(margin, *told))

    def _judged(self, name: str, margin: Margin) -> AbilityRow:
        self._edited  # noqa: B018 - what is wrong with the edits is no ability's fault
        found = self._asked.judged(name, margin)
        return row_of(found, margin, self._mentions_in(found.answers.base))

    @cached_property
    def edit_scores(self) -> EditScores:
        """Whether the edits took, carried over and stayed local, before and after."""
        edited = self._edited
        with self.stages("edit scores", "asking about the edits") as done:
            return score_edits_of(self._known, edited, self._log_of, done, self.crew)

    @cached_property
    def integrity(self) -> Integrity:
        """Whether the edited weights are sound; of several edited models, the worst."""
        return self._soundness.worst(self._edited)

    @cached_property
    def collapse(self) -> str | None:
        """Why the edited model is no working language model; None where it is one, or where nobody wants to know."""
        wanted = self.settings.triage
        return triage(self._edited, self._soundness.of, self._interview, self.lm) if wanted else None

    @cached_property
    def locality(self) -> Locality:
        """Base and edited models side by side, after prompts about what no edit touched."""
        topics = topics_of(self.requests, self.changes.others, self._texts)
        seed = self.settings.seed
        return Locality(self._known, self._edited, topics, seed=seed, store=self._store, stages=self.stages)

    def run(self, abilities: Sequence[str] | None = None, max_drop: float | str | Margin = DEFAULT_MARGIN) -> RunReport:
        """Measure everything (or just these abilities, and the edit itself) and report."""
        self.prepare()
        for ability in abilities or ABILITIES:  # what no margin allows is told before anything is asked
            self._allowed(ability, max_drop)
        for ability in abilities or ABILITIES:
            if ability not in self._rows:  # a margin that was asked for before stands
                with suppress(UnaskedError, CollapsedError):  # the report tells of it
                    self.verdict(ability, max_drop)
        self.integrity  # noqa: B018 - measured when first asked for
        if self.requests:
            self.edit_scores  # noqa: B018
        return self.report()

    def report(self) -> RunReport:
        """All that was measured so far, and the proof that the weights are what they were."""
        order = {name: place for place, name in enumerate(ABILITIES)}
        rows = sorted((row for _, row in self._rows.values()), key=lambda row: order.get(row.ability, len(order)))
        kept = [records(paired, self._mentions_in(paired.base)) for paired in self._asked.answers.values()]
        return RunReport(
            header=self.header,
            abilities=tuple(rows),
            edit_scores=self.edit_score_rows() if "edit_scores" in self.__dict__ else (),
            integrity=(
                *(self.integrity_rows() if "integrity" in self.__dict__ else ()),
                weights_restored(self._known, self.crew),
            ),
            skipped=tuple(SkippedEdit(s.file, s.line, s.field, s.reason) for s in self.changes.skipped),
            seconds=self.stages.seconds,
            settings=self.settings.plain(),
            fingerprints={
                "weights": self._known.weights,
                "tokenizer": self._known.tokenizer,
                "edits": self.changes.requests_fingerprint,
                **data_revisions(self.source, self._asked.answers),
                **({"patch": self._edited[0].patch.fingerprint} if len(self.__dict__.get("_edited", ())) == 1 else {}),
            },
            versions={"python": platform.python_version(), **versions()},
            taken_over=self._taken_over(),
            items=tuple(item for one in kept for item in one),
            unasked=self.unasked,
            collapse=self.__dict__.get("collapse"),
        )

    def edit_score_rows(self) -> tuple[EditScore, ...]:
        """The edit's own scores as a report holds them; what no request can measure is left out."""
        return edit_score_rows(self.edit_scores)

    def integrity_rows(self) -> tuple[IntegrityRow, ...]:
        """The checks of the edited weights as a report holds them."""
        return tuple(IntegrityRow(c.name, c.value, c.sound, c.sentence) for c in self.integrity.checks)

    @cached_property
    def _store(self) -> Store | None:
        if not self.settings.use_store:
            return None
        return store_at(self.settings.store)

    @cached_property
    def _known(self) -> KnownModel:
        """The model, and what its weights were before anything touched them."""
        self.requests  # noqa: B018 - a count that the source cannot fill is cheaper to find out than a model is to load
        wanted = self.settings
        with self.stages("loading"):
            return KnownModel.of(
                load_language_model(wanted.model, revision=wanted.revision, device=wanted.device, dtype=wanted.dtype)
            )

    @cached_property
    def _told(self) -> Told:
        return self.changes.told(self._known)

    @cached_property
    def _edited(self) -> tuple[EditedModel, ...]:
        with self.stages("editing", f"{self._told.method} edits") as done:
            models = self.crew.first_ahead(lambda: self.changes.models(self._known, done))
        self.crew.agree("the patches that they hold", [model.patch.fingerprint for model in models])
        return models

    @cached_property
    def _mentions(self) -> Mentions:
        return Mentions(self.requests)

    def _mentions_in(self, asked: Answers) -> tuple[tuple[str, ...], ...]:
        """The edited subjects and targets that each item mentions."""
        return tuple(self._mentions.in_item(item) for item in asked.items)

    @cached_property
    def _texts(self) -> tuple[str, ...]:
        return fixed_texts(self.settings.model)

    @cached_property
    def _soundness(self) -> Soundness:
        return Soundness(self._known, self._texts, self._log_of, self.crew, self.stages)

    def _log_of(self, patch: Patch | None) -> AnswerLog | None:
        """The answers kept for the model with a patch."""
        if self._store is None:
            return None
        state = self._known.state(patch)
        return self._logs.setdefault(state, AnswerLog.of(self._store, state))

    @cached_property
    def _reuse(self) -> Reuse | None:
        """What the edited models take over from the base model and from each other."""
        return Reuse.of(self.lm, [model.patch for model in self._edited]) if self.settings.reuse else None

    def _taken_over(self) -> TakenOver:
        done = self.__dict__  # what was not asked for is not computed for its counts
        return taken_over(done.get("_edited", ()), len(self.requests), self._asked.answers.values(), done.get("_reuse"))

    def answers(self, name: str) -> PairedAnswers:
        """The answers of the base model and of each edited model to all items of an ability."""
        self._edited  # noqa: B018 - what is wrong with the edits is no ability's fault
        return self._asked.everything(name)

    def _interview(self, name: str) -> Interview:
        """The questions of an ability, ready to be put to all the models."""
        models, reuse = self._edited, self._reuse
        ability, questions = self.crew.together(lambda: questions_of(name, self.source, self.lm, self.settings))
        if reuse is not None:
            reuse.forget()
        return Interview(ability, questions, self._known, models, self.stages, self.crew, reuse, self._log_of)
