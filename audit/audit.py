"""The audit of one edited model: load, edit once, ask before and after, compare.

    audit = Audit(model="pocket-gpt2", editor="memit", edit_count=10)
    audit.verdict("reasoning", max_drop=0.05).outcome
    write_report(audit.report())  # from audit.reports.folder

Each result is computed when it is first needed, and only once. The model is edited inside context managers only, so
between two calls its weights are those that were loaded; `report` checks that by fingerprint.
"""

import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from audit.abilities.contract import Answers
from audit.abilities.data import Source
from audit.abilities.data.ability_source import AbilitySource, shown_name
from audit.abilities.data.sources import source_of_data
from audit.abilities.presentation import require_chat_template
from audit.answering.answers import AnswerLogs
from audit.answering.crew import Crew
from audit.answering.items import DrawnItems, data_revisions, margin_for, with_reading
from audit.answering.locality import Locality
from audit.answering.noise_floors import noise_floor_for
from audit.answering.paired_answers import PairedAnswers
from audit.answering.run_answers import AbilityRun, RunAnswers
from audit.answering.run_items import RunItems
from audit.answering.triage import triage
from audit.editing.changes import Changes
from audit.editing.edit_run import EditRun
from audit.editing.steps import EditedModel, caveats_of
from audit.edits.requests import EditRequest
from audit.engine.known_model import ENGINE_VERSION, KnownModel
from audit.errors import AbilityError, CollapseError, NoChangeError
from audit.measures.edit_success import EditScores
from audit.measures.integrity import Integrity
from audit.measures.locality_topics import topics_of
from audit.measures.mentions import Mentions
from audit.models.fingerprints import content_fingerprint
from audit.models.language_model import LanguageModel
from audit.progress import Once, Stages, Watcher
from audit.reports.ability_rows import records, reuse_counts, row_of
from audit.reports.markdown import markdown
from audit.reports.rows import AbilityRow, IntegrityRow, RunHeader, RunReport, SkippedEdit, usual_place
from audit.reports.run_rows import edit_score_rows, integrity_rows, restored_row, run_header, unchanged_rows
from audit.settings.declaration import Effect
from audit.settings.options import DEFAULT_KEEP, DEFAULT_MARGIN, AuditSettings
from audit.store import versions
from audit.store.content import Store, store_at
from audit.verdicts.margins import Margin, SuiteMargins, margin_of
from audit.verdicts.noise import NoiseFloor


class Audit:
    """One model, one set of edits, and all results so far.

    Args:
        settings: what to audit; or give its fields as keywords, as in the example above.
        source: where the abilities' rows come from; by default that of the settings.
        watcher: shows progress; None shows nothing.
        crew: the processes that run this audit together, of which this is one; each calls the same methods in turn.
        edit_run: the edits to audit, with their own crew and stages; by default those of the settings.

    Every method raises `AuditError` for an error that the user can fix.
    """

    def __init__(
        self,
        settings: AuditSettings | None = None,
        *,
        source: Source | None = None,
        watcher: Watcher | None = None,
        crew: Crew | None = None,
        edit_run: EditRun | None = None,
        **options: Any,
    ) -> None:
        if settings is not None and options:
            raise TypeError("give settings, or options by name, not both")
        self.settings = settings or AuditSettings(**options)
        if edit_run is None:
            store = store_at(self.settings.store) if self.settings.use_store else None
            edit_run = EditRun(self.settings, AnswerLogs(store), crew or Crew(), Stages(watcher))
            source = AbilitySource(source or source_of_data(self.settings.data, store), self.settings.abilities)
        self.edit_run = edit_run
        self.source = source or source_of_data(self.settings.data, edit_run.logs.store)
        self.crew, self.stages = edit_run.crew, edit_run.stages
        self.started = datetime.now(UTC)
        self._rows: dict[str, tuple[tuple[SuiteMargins, str], AbilityRow]] = {}  # by ability: what was asked, the row
        self._run_items = self._new_items()
        self._answers = RunAnswers(lambda name: self._run_over(self._run_items.of(name)), self.settings)
        self._collapse, self._locality = Once(self._triage), Once(self._measured_locality)
        self._mentions = Once(lambda: Mentions(self.requests))

    def watch(self, watcher: Watcher | None) -> None:
        """Show progress with `watcher` from now on."""
        self.stages.watcher = watcher

    def prepare(self) -> None:
        """Load and check everything that can be wrong before anything long begins; the cheap checks come first."""
        self.crew.run_in_all(self._check)

    def share_folder(self, folder: Path) -> None:
        """Use `folder` as the store, for the processes of a run that keeps nothing; call it before anything else."""
        self.edit_run = EditRun(self.settings, AnswerLogs(Store(folder)), self.crew, self.stages)
        self._run_items = self._new_items()

    def under(self, changes: Changes, *, limit: int | None = None, source: Source | None = None) -> "Audit":
        """An audit of other changes of the same model, with the same store; the model is loaded once."""
        wanted, stages = self._run_items.wanted, Stages(self.stages.watcher)
        settings = replace(wanted, limit=limit or wanted.limit)
        edit_run = EditRun(settings, self.edit_run.logs, self.crew, stages, changes=changes, known=self.known)
        return Audit(settings, source=source or self.source, edit_run=edit_run)

    @property
    def control(self) -> bool:
        """Whether the editor is a control, which makes no edit."""
        return self.edit_run.summary().control

    @property
    def changes(self) -> Changes:
        """What is done to the model: the edits of a plan, or a checkpoint that was edited elsewhere."""
        return self.edit_run.changes()

    @property
    def requests(self) -> tuple[EditRequest, ...]:
        """The edit requests of this run, in the order in which they are applied."""
        return self.changes.drawn.requests

    @property
    def header(self) -> RunHeader:
        """What is audited and how."""
        model = self.lm.revision, str(self.lm.device), str(self.lm.dtype).removeprefix("torch.")
        edits, data = self.edit_run.summary(), shown_name(self.source)
        header = run_header(self.settings, edits, data=data, started=self.started, loaded=model)
        return replace(header, editing_caveats=caveats_of(self.edit_run.edited.or_default(())))

    @property
    def known(self) -> KnownModel:
        """The model with the fingerprints of what was loaded."""
        return self.edit_run.known()

    @property
    def lm(self) -> LanguageModel:
        """The model; unedited, because edits live inside context managers only."""
        return self.known.lm

    @property
    def edited(self) -> tuple[EditedModel, ...]:
        """The edited models: one, or one for each request under instance-single."""
        return self.edit_run.edited()

    def signature(self, abilities: Sequence[str] = ()) -> str:
        """sha256 over everything that the results depend on: settings, weights, edits, the editor and versions."""
        asked = self.settings.by_effect(Effect.ANSWERS, Effect.ITEMS)
        names, known = abilities or self.settings.abilities.asked, self.settings.abilities
        return content_fingerprint(
            {
                **self.changes.identity(self.known),
                "abilities": sorted(abilities),
                **{name.replace("_", " "): value for name, value in asked.items()},
                "data": self.source.name,
                **data_revisions(self.source, names),
                **known.definitions(names),
                "dtype": str(self.lm.dtype),
                "engine": ENGINE_VERSION,
            }
        )

    @property
    def unasked(self) -> dict[str, str]:
        """The abilities that could not be asked, with the reason."""
        return self._answers.unasked

    @property
    def measured(self) -> bool:
        """Whether there is anything to report."""
        run = self.edit_run
        measured = run.scores.done or run.integrity.done or run.unchanged.done or self._locality.done
        return measured or bool(self._rows or self.unasked or self._collapse.or_default(None))

    def verdict(
        self,
        ability: str,
        max_drop: float | str | Margin = DEFAULT_MARGIN,
        keep: str | Margin = DEFAULT_KEEP,
        reading: str = "",
    ) -> AbilityRow:
        """Judge one ability, given as for `--ability`. The margin is `max_drop`, 0.05 or "90%", or the share to `keep`.

        A margin in the settings overrides both. `reading` applies unless the settings have one for the ability.

        Raises:
            AbilityError: the items of this ability cannot be loaded or asked; the run cannot pass, others go on.
            NoChangeError: the edited model equals the base model, which the settings do not allow; the run fails.
            CollapseError: the edited model has collapsed; no ability is asked, and the run fails.
            AuditError: the margin is below the noise floor that `audit calibrate` measured; nothing is asked.
        """
        suite = SuiteMargins(margin_of(max_drop), margin_of(keep))
        with self._answers.reason_kept(ability):
            ability = self._known_name(ability)
        noise = self._checked_noise(ability, suite, reading)
        if ability not in self._rows or self._rows[ability][0] != (suite, reading):
            for check in self._unchanged_rows():
                if check.sound is False:
                    raise NoChangeError(f"{check.sentence} No ability was asked. Use --allow-unchanged to ask them.")
            if self.collapse is not None:
                raise CollapseError(f"{self.collapse} No ability was asked. Use --no-triage to ask them anyway.")
            row = self._judge(ability, suite, reading)
            row = replace(row, noise_floor=noise.floor, noise_items=noise.n) if noise else row
            self._rows[ability] = (suite, reading), row
        return self._rows[ability][1]

    def answers(self, name: str) -> PairedAnswers:
        """The paired answers to all items of an ability."""
        self.edit_run.edited()  # so that an error of the edits is not one of this ability
        return self._answers.all_of(name)

    @property
    def edit_scores(self) -> EditScores:
        """Whether the edits took, generalized and stayed local, before and after."""
        return self.edit_run.scores()

    @property
    def integrity(self) -> Integrity:
        """Whether the edited weights are sound; of several edited models, the worst."""
        return self.edit_run.integrity()

    @property
    def collapse(self) -> str | None:
        """The sentence that says why the edited model has collapsed; None if it has not, or without triage."""
        return self._collapse()

    @property
    def locality(self) -> Locality:
        """Base model and edited models compared on prompts about what no edit touched."""
        return self._locality()

    def run(self, abilities: Sequence[str] | None = None, max_drop: float | str | Margin = DEFAULT_MARGIN) -> RunReport:
        """Measure everything (or these abilities, and the edit itself) and report."""
        self.prepare()
        names = [self._known_name(ability) for ability in abilities or self.settings.abilities.asked]
        for ability in names:  # refuse margins below a noise floor before anything is asked
            self._checked_noise(ability, SuiteMargins(margin_of(max_drop), margin_of(DEFAULT_KEEP)))
        for ability in names:
            if ability not in self._rows:  # a row under an earlier margin is kept
                with suppress(AbilityError, CollapseError, NoChangeError):  # the report contains them
                    self.verdict(ability, max_drop)
        self.edit_run.integrity()
        if self.requests:
            self.edit_run.scores()
        return self.report()

    def _repr_markdown_(self) -> str:
        """The results so far, as a notebook shows them."""
        return markdown(self.report()) if self.measured else "Nothing is measured yet."

    def report(self) -> RunReport:
        """All results so far, and the check that the weights are those that were loaded."""
        run, rows, texts = self.edit_run, [row for _, row in self._rows.values()], self.settings.item_texts
        kept, edited = self._answers.answers.values(), run.edited.or_default(())
        return RunReport(
            header=self.header,
            abilities=tuple(sorted(rows, key=lambda row: usual_place(row.ability))),
            edit_scores=edit_score_rows(run.scores()) if run.scores.done else (),
            integrity=(
                *(integrity_rows(run.integrity()) if run.integrity.done else ()),
                *(self._unchanged_rows() if run.edited.done else ()),
                restored_row(run.restored()),
            ),
            skipped=tuple(SkippedEdit(s.file, s.line, s.field, s.reason, s.row) for s in self.changes.drawn.skipped),
            seconds=self.stages.seconds,
            settings=self.settings.plain(),
            fingerprints={
                "weights": self.known.weights,
                "tokenizer": self.known.tokenizer,
                "edits": self.changes.drawn.fingerprint,
                **data_revisions(self.source, self._answers.answers),
                **self._run_items.wanted.abilities.definitions(self._answers.answers),
                **({"patch": edited[0].patch.fingerprint} if len(edited) == 1 else {}),
            },
            versions={"python": platform.python_version(), **versions()},
            reuse=reuse_counts(run.reuse.or_default(None), self._answers.answers, edited, len(self.requests)),
            items=tuple(one for paired in kept for one in records(paired, self._mentions_in(paired.base), texts=texts)),
            unasked=self.unasked,
            collapse=self._collapse.or_default(None),
            edit_notes=self.changes.drawn.notes,
        )

    def _check(self) -> None:
        self.source.check()
        self.changes.prepare()
        self.edit_run.summary()
        if flag := self.settings.chat_flag:
            require_chat_template(self.lm.tokenizer, self.settings.model, flag)

    def _checked_noise(self, ability: str, suite: SuiteMargins, reading: str = "") -> NoiseFloor | None:
        """The noise floor of an ability, which its margin must not be below; None if it was not calibrated."""
        log, data, typed = self.edit_run.logs.of(self.known), self.source.name, self.settings.margins.get(ability)
        margins = SuiteMargins(typed, typed) if typed else suite
        wanted = with_reading(self._run_items.wanted, ability, reading)
        return self.crew.run_in_all(lambda: noise_floor_for(margins, log, ability, wanted, data))

    def _judge(self, name: str, suite: SuiteMargins, reading: str) -> AbilityRow:
        self.edit_run.edited()  # an error of the edits is not one of this ability
        with self._answers.reason_kept(name):
            drawn = self._run_items.of(name, suite.max_drop, reading)
            margin = margin_for(drawn.ability, suite, self._run_items.wanted)
        found = self._answers.judgment(name, margin)
        wanted, mentions = self._run_items.wanted, self._mentions_in(found.answers.base)
        return row_of(found, margin, mentions, drawn, wanted.abilities.origin(name), texts=wanted.item_texts)

    def _known_name(self, text: str) -> str:
        """The name of an ability that is given by name, file or class; this run then knows it."""
        return self.crew.run_in_all(lambda: self._run_items.know(text, self.source))

    def _new_items(self) -> RunItems:
        of_run = (self.edit_run.logs, self.crew, self.stages, lambda: self.requests)
        return RunItems(self.source, self.settings, lambda: self.known, *of_run)

    def _run_over(self, drawn: DrawnItems) -> AbilityRun:
        """The items of an ability with the models that answer them."""
        run, clear = self.edit_run, drawn.chosen.clear
        if (reuse := run.reuse()) is not None:
            reuse.forget()
        items, stages = drawn.items, self.stages
        return AbilityRun(drawn.ability, items, self.known, run.patches, stages, self.crew, reuse, run.logs, clear)

    def _unchanged_rows(self) -> tuple[IntegrityRow, ...]:
        """The check that the edited models differ from the base model; `identity` need not."""
        wanted, run = self.settings, self.edit_run
        allowed = wanted.allow_unchanged or (wanted.edited is None and wanted.editor == "identity")
        return unchanged_rows(run.unchanged(), len(run.edited()), allowed=allowed)

    def _triage(self) -> str | None:
        if not self.settings.triage:
            return None
        written, of = lambda name: self._run_over(self._run_items.written(name)), self.edit_run.soundness().of
        return triage(self.edit_run.patches, of, written, self.lm, self._run_items.wanted.abilities)

    def _measured_locality(self) -> Locality:
        topics = topics_of(self.requests, self.changes.drawn.others, self.edit_run.unrelated())
        seed, store = self.settings.seed, self.edit_run.logs.store
        return Locality(self.known, self.edit_run.patches, topics, seed=seed, store=store, stages=self.stages)

    def _mentions_in(self, answers: Answers) -> tuple[tuple[str, ...], ...]:
        """The edited subjects and targets that each item mentions."""
        return tuple(self._mentions().in_item(item) for item in answers.items)
