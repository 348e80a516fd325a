"""The bench of a grid: one model, loaded once, on which cells are measured one after the other.

    bench = Bench(settings)
    for cell, outcome in bench.outcomes(cells):       # a CellResult, a FailedCell, or None if it is up to date
        ...

All cells of a model share its base answers and the choice of readings through the store, and the cells of one edit plan
share its edits. The first bench that asks a model measures its noise (A/A) as well; others wait for it.
"""

import gc
import json
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from shutil import disk_usage
from statistics import fmean
from time import process_time

from filelock import FileLock

from audit.abilities.data.ability_source import AbilitySource
from audit.abilities.data.sources import source_of_data
from audit.answering.answers import AnswerLogs
from audit.answering.crew import Crew
from audit.audit import Audit
from audit.editing.changes import PlannedEdits
from audit.editing.edit_run import EditRun
from audit.editing.steps import EditedModel
from audit.editors.restraints import load_restraint
from audit.engine.known_model import KnownModel
from audit.errors import AuditError, first_line
from audit.measures.integrity import entry_shares
from audit.models.fingerprints import content_fingerprint
from audit.models.loading import load_language_model
from audit.models.patches import originals_kept
from audit.progress import Stages
from audit.reports.folder import write_texts, written_into
from audit.reports.workflows.grid_cells import Cell, CellResult, cell_file, read_cell
from audit.reports.workflows.grid_scores import AbilityScores
from audit.settings.declaration import Effect
from audit.settings.options import AuditSettings
from audit.settings.values import file_name, short_name
from audit.store.content import store_at
from audit.store.files import read_json
from audit.verdicts.noise import NoiseFloor
from audit.workflows.calibrate import batch_noise
from audit.workflows.edit_subsets import EditSubset, PlanRun
from audit.workflows.grid.cells import FailedCell, GridSettings, repeat_command
from audit.workflows.grid.plan_cells import PlanCells

LEAST_FREE = 256 << 20  # bytes on the disk of the grid; with fewer no cell begins
NOISE_FOLDER = "noise"

Outcome = CellResult | FailedCell | None


class Bench:
    """Measures cells; the model of the last one stays loaded.

    `kept` gives the signature of the result that a cell has already, None without a usable one; by default it reads
    the cell's file.
    """

    def __init__(self, settings: GridSettings, kept: Callable[[Cell], str | None] | None = None) -> None:
        self._settings = settings
        self._kept = kept or (lambda cell: kept_signature(cell, settings))
        self._logs = AnswerLogs(store_at(settings.store))
        self._source = source_of_data(settings.data, self._logs.store)
        self._loaded: tuple[str, KnownModel] | None = None

    def outcomes(self, cells: PlanCells) -> Iterator[tuple[Cell, Outcome]]:
        """Each cell with its outcome."""
        plan = _SharedPlan(cells, self._audit)
        for cell in cells.cells:
            outcome: Outcome
            try:
                outcome = self._result(cell, plan)
            except AuditError as error:
                outcome = FailedCell(cell, str(error))
            except Exception as error:  # noqa: BLE001 - such as one in an editor, which must not cost the other cells
                outcome = FailedCell(cell, f"{type(error).__name__}: {first_line(error)}", traceback.format_exc())
            yield cell, outcome

    def _result(self, cell: Cell, plan: "_SharedPlan") -> CellResult | None:
        settings, begun = self._settings, process_time()
        if settings.ray is None:  # else the folder is on another machine
            _require_space(settings.root)
        own = self._audit(cell)
        names = own.settings.abilities.asked if settings.abilities else ()
        signature = own.signature(names)
        if signature == self._kept(cell):
            return None
        audit, edits_made = plan.audit_of(cell, own)
        noise = self._noise(cell, audit) if settings.ray is None else {}
        report = audit.run(names or None)
        seconds = Counter(report.seconds) + Counter(plan.new_seconds())
        if audit is not own:
            seconds += Counter(own.stages.seconds)
        kept = own.settings.by_effect(*(effect for effect in Effect if effect is not Effect.OUTPUT))
        command = repeat_command(own.settings)
        return CellResult(
            cell,
            replace(report, seconds=dict(seconds), settings=kept, command=command),
            _entry_shares(audit),
            signature,
            asked=settings.asked(cell),
            scores=tuple(AbilityScores.of(audit.answers(row.ability)) for row in report.abilities),
            noise=noise,
            edits_made=edits_made,
            processor_seconds=process_time() - begun,
        )

    def _audit(self, cell: Cell) -> Audit:
        """The audit of a cell, with its edits made by its own plan.

        Raises:
            AuditError: the model, the edits or the data cannot be used.
        """
        wanted, stages = self._settings.audit_settings(cell), Stages(None)
        changes = PlannedEdits(wanted, self._logs.store)
        changes.prepare()
        with stages("loading"):
            known = self._known(wanted)
        changes.fit(known)
        run = EditRun(wanted, self._logs, Crew(), stages, changes=changes, known=known)
        audit = Audit(wanted, source=AbilitySource(self._source, wanted.abilities), edit_run=run)
        audit.prepare()
        return audit

    def _known(self, wanted: AuditSettings) -> KnownModel:
        if self._loaded is None or self._loaded[0] != wanted.model:
            self._loaded = None
            gc.collect()  # frees the last model before the next one is loaded
            lm = load_language_model(
                wanted.model, device=wanted.device, dtype=wanted.dtype, store=self._logs.store, revision=wanted.revision
            )
            self._loaded = wanted.model, KnownModel.of(lm)
        return self._loaded[1]

    def _noise(self, cell: Cell, audit: Audit) -> Mapping[str, NoiseFloor]:
        """The noise of the model's scores by ability; measured by the first process that needs it."""
        settings, known = self._settings, audit.known
        asked = audit.settings.by_effect(Effect.ANSWERS, Effect.ITEMS)
        key = content_fingerprint([known.state(), asked, sorted(map(str, settings.abilities))])
        name, folder = file_name(short_name(cell.model)), settings.root / NOISE_FOLDER
        with written_into(folder, "--out"), FileLock(folder / f"{name}.lock"):
            try:
                content = read_json(folder / f"{name}.json")
                if content["key"] == key:
                    return {ability: NoiseFloor(**plain) for ability, plain in content["noise"].items()}
            except (OSError, ValueError, KeyError, TypeError):
                pass  # not measured yet, or damaged
            names, source = audit.settings.abilities.asked, audit.source
            noise = batch_noise(known, audit.settings, names, source, self._logs, audit.stages)
            plain = {ability: asdict(found) for ability, found in noise.items()}
            write_texts(folder, {f"{name}.json": json.dumps({"key": key, "noise": plain}, indent=1) + "\n"}, "--out")
        return noise


class _SharedPlan:
    """The edits of one plan, made when the first cell needs them, and audits of cells with them."""

    def __init__(self, cells: PlanCells, audit_of: Callable[[Cell], Audit]) -> None:
        self._plan = cells.plan
        self._alone = cells.cells == (cells.plan,) or cells.plan.mode == "instance-single"
        self._audit_of = audit_of
        self._run: PlanRun | None = None
        self._counted: Counter[str] = Counter()  # seconds that cells have counted

    def audit_of(self, cell: Cell, own: Audit) -> tuple[Audit, int]:
        """An audit of the cell whose models are edited, and how many edits were made for it.

        `own` is its audit with an edit plan of its own, which is used where the shared one cannot serve it.

        Raises:
            AuditError: the edits cannot be made.
        """
        if not self._alone:
            try:
                run = self._run or PlanRun(self._audit_of(self._plan))
                fresh, self._run = self._run is None and not _stored(run.audit), run
                model = _restrained(run, run.first(cell.count).edited[0], cell, self._plan)
            except AuditError:
                if cell.count == self._plan.count:
                    raise
            else:
                if model.requests == own.requests:
                    subset = EditSubset((model,), own.edit_run.summary(), own.changes.drawn)
                    return own.under(subset), self._plan.count if fresh else 0
        made = 0 if _stored(own) else len(own.requests)
        own.edit_run.edited()
        return own, made

    def new_seconds(self) -> Counter[str]:
        """The wall seconds of the shared plan, by stage, since the last call."""
        spent = Counter() if self._run is None else Counter(self._run.audit.stages.seconds)
        fresh, self._counted = spent - self._counted, spent
        return fresh


def kept_signature(cell: Cell, settings: GridSettings) -> str | None:
    """The signature of the result in the cell's file; None if there is no usable result."""
    file = cell_file(cell, settings.root)
    try:
        return read_cell(file).signature if file.exists() else None
    except AuditError:
        return None  # an incomplete file or an older format: run the cell again


def _require_space(root: Path) -> None:
    """Raise `AuditError` if the disk of the folder is (nearly) full."""
    with written_into(root, "--out"):
        free = disk_usage(root).free
    if free < LEAST_FREE:
        raise AuditError(f"--out {root}: only {free >> 20} MB are free there; free some space.")


def _stored(audit: Audit) -> bool:
    changes = audit.changes
    return isinstance(changes, PlannedEdits) and changes.stored(audit.known)


def _restrained(run: PlanRun, model: EditedModel, cell: Cell, plan: Cell) -> EditedModel:
    """The model with the restraint that the cell has and the plan has not; that of a single step, or of the sum."""
    if cell.restraint == plan.restraint:
        return model
    lm, restraint = run.audit.lm, load_restraint(cell.restraint, cell.seed)
    patch = restraint.after_edit(lm, model.patch) if cell.mode == "batch-single" else model.patch
    return replace(model, patch=restraint.after_plan(lm, patch))


def _entry_shares(audit: Audit) -> dict[float, float]:
    """The shares of entries that changed by more than each threshold, as means over the edited models."""
    measured = []
    for edited in audit.edited:
        with originals_kept(audit.lm) as originals:
            edited.patch.write(audit.lm, originals)
            measured.append(entry_shares(originals))
    return {threshold: fmean(one[threshold] for one in measured) for threshold in measured[0]}
