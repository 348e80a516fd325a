"""The cells of a grid: combinations of model, editor, restraint, mode and number of edits, each measured by an audit.

    cells = paper_cells(("pocket-gpt2", "pocket-llama"))
    cells = product_cells(models=("pocket-gpt2",), editors=("rome",), modes=("instance-sequential",), counts=(1, 10))

`audit.workflows.grid.grid_file` reads both cells and settings from a file.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from audit.edits.plan import BATCH_MODES, MODES
from audit.errors import AuditError
from audit.models.fingerprints import content_fingerprint
from audit.reports.workflows.grid_cells import POCKET, Cell, spelled
from audit.settings.declaration import Effect
from audit.settings.options import OPTIONS, AuditSettings
from audit.settings.values import parse_pairs, written
from audit.store import PACKAGE, versions

SAFE = re.compile(r"[\w./:=,+-]+")  # a word that no shell reads differently
EditorSettings = Mapping[str, Mapping[str, str]]  # hyperparameters by editor


def paper_cells(models: Sequence[str], *, seed: int = 0, edits: str = POCKET) -> tuple[Cell, ...]:
    """The grid of Gu et al. (2024) in miniature: four editors with their modes, and RECT with its controls."""
    cells: list[Cell] = []

    for model in models:

        def add(editor: str, restraint: str, mode: str, sizes: Sequence[tuple[int, int]], model: str = model) -> None:
            cells.extend(Cell(model, editor, restraint, mode, size, count, seed, edits) for size, count in sizes)

        add("kn", "", "instance-single", [(1, 5)])
        add("kn", "", "instance-sequential", [(1, count) for count in (1, 5, 10)])
        add("rome", "", "instance-single", [(1, 5)])
        add("rome", "", "instance-sequential", [(1, count) for count in (1, 5, 10, 20, 50, 100)])
        for editor in ("mend", "memit"):
            add(editor, "", "instance-single", [(1, 5)])
            add(editor, "", "instance-sequential", [(1, count) for count in (1, 4, 10, 20, 50)])
            add(editor, "", "batch-single", [(count, count) for count in (10, 50, 100)])
            add(editor, "", "batch-sequential", [(10, 20), (10, 50), (10, 100), (50, 100), (50, 200)])
        for restraint in ("rect:0.4", "rect:0.2", "random:0.4", "prune"):
            add("rome", restraint, "instance-sequential", [(1, count) for count in (20, 50, 100)])
            add("memit", restraint, "batch-sequential", [(10, 100)])
    return tuple(cells)


def product_cells(
    *,
    models: Sequence[str],
    editors: Mapping[str, bool],
    counts: Sequence[int],
    modes: Sequence[str] = (),
    batch_sizes: Sequence[int] = (10,),
    restraints: Sequence[str] = ("",),
    seeds: Sequence[int] = (0,),
    edits: Sequence[str] = (POCKET,),
    config: tuple[str, ...] = (),
) -> tuple[Cell, ...]:
    """Every combination that can be run; `editors` maps the name of each editor to whether it takes batches.

    Without `modes`: instance-sequential, and batch-single for editors that take batches. Batch sizes apply to
    batch-sequential mode, where they are smaller than the number of edits.

    Raises:
        AuditError: a mode is unknown, a number is below 1, or no combination can be run.
    """
    for mode in modes:
        if mode not in MODES:
            raise AuditError(f"--modes {mode!r} is unknown; give some of {', '.join(MODES)}.")
    for flag, numbers in (("--counts", counts), ("--batch-sizes", batch_sizes)):
        for number in numbers:
            if number < 1:
                raise AuditError(f"{flag} {number}: give whole numbers of at least 1.")
    cells: dict[Cell, None] = {}
    for model, source, seed, editor, restraint, count in product(models, edits, seeds, editors, restraints, counts):
        for mode in modes or ("instance-sequential", "batch-single"):
            if mode in BATCH_MODES and not editors[editor]:
                continue
            sizes = [size for size in batch_sizes if size < count] if mode == "batch-sequential" else [0]
            for size in sizes:
                batch_size = size or (count if mode == "batch-single" else 1)
                cells[Cell(model, editor, restraint, mode, batch_size, count, seed, source, config)] = None
    if not cells:
        raise AuditError(
            f"no combination of editors {', '.join(editors)} and modes {', '.join(modes)} can be run: "
            "batch modes need an editor that batches, such as memit, and batch-sequential counts above its batch size."
        )
    return tuple(cells)


@dataclass(frozen=True)
class GridModel:
    """Where a model of a grid is, and the settings that its editors have on it."""

    place: str
    editor_config: EditorSettings = field(default_factory=dict)


@dataclass(frozen=True)
class GridSettings:
    """The settings that all cells of a grid share; `abilities` are names, files or classes, and none means all eight.

    `models` and `edits` say where the models and the edit requests are that cells name; other names are taken as they
    are. `seed` draws the items, the seed of a cell its edits. `editor_config` overrides that of a model. Cells run in
    `workers` processes on this machine, or as tasks of the Ray cluster at `ray`. `spellings` are paths with what a
    cell's file says instead.
    """

    root: Path
    limit: int = 200
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    data: str = "pocket"
    reading: Mapping[str, str] = field(default_factory=dict)
    prompting: str = "auto"
    store: Path | None = None
    models: Mapping[str, GridModel] = field(default_factory=dict)
    edits: Mapping[str, str] = field(default_factory=dict)
    editor_config: EditorSettings = field(default_factory=dict)
    abilities: tuple[str, ...] = ()
    workers: int = 1
    ray: str | None = None
    spellings: tuple[tuple[str, str], ...] = ()

    def audit_settings(self, cell: Cell) -> AuditSettings:
        """The settings of one cell's audit."""
        model = self.models.get(cell.model, GridModel(cell.model))
        shared = (settings.get(cell.editor, {}) for settings in (model.editor_config, self.editor_config))
        own = parse_pairs("config", cell.config, example="layers=3,4")
        return AuditSettings(
            model=model.place,
            editor=cell.editor,
            restraint=cell.restraint or None,
            edits=self.edits.get(cell.edits, cell.edits),
            ability=self.abilities,
            edit_mode=cell.mode,
            edit_count=cell.count,
            edit_batch_size=cell.batch_size if cell.mode == "batch-sequential" else None,
            edit_seed=None if cell.seed == self.seed else cell.seed,
            editor_config={key: value for some in (*shared, own) for key, value in some.items()},
            limit=self.limit,
            seed=self.seed,
            data=self.data,
            reading=self.reading,
            prompting=self.prompting,
            device=self.device,
            dtype=self.dtype,
            store=self.store,
            triage=False,  # a collapsed model is a result as well, and so is an unchanged one
            allow_unchanged=True,
        )

    def asked(self, cell: Cell) -> str:
        """sha256 over the settings that a cell's result depends on, known before anything is loaded.

        It is the same in every folder: paths are spelled as in the cell's file. Settings that have their defaults do
        not count, so a new option changes nothing.
        """
        effects = [effect for effect in Effect if effect is not Effect.OUTPUT]
        usual = AuditSettings().by_effect(*effects)
        settings = self.audit_settings(cell).by_effect(*effects)
        chosen = {name: value for name, value in settings.items() if value != usual[name]}
        text = spelled(json.dumps(chosen, sort_keys=True), self.spellings)
        return content_fingerprint([text, sorted(map(str, self.abilities)), versions().get(PACKAGE)])


def repeat_command(settings: AuditSettings) -> str:
    """The `audit run` that repeats an audit with these settings, with values quoted where a shell needs it."""
    words = ["audit run"]
    for option in OPTIONS:
        value = getattr(settings, option.field)
        if option.effect is Effect.OUTPUT or value in (None, {}, (), option.default):
            continue
        if option.kind.switch:
            words.append(option.flag)
            continue
        several = value if isinstance(value, tuple) else (value,)
        pairs = value.items() if isinstance(value, Mapping) else [("", one) for one in several]
        texts = [f"{key}={written(one)}" if key else str(written(one)) for key, one in pairs]
        words += [f"{option.flag} {text if SAFE.fullmatch(text) else json.dumps(text)}" for text in texts]
    return " ".join(words)


@dataclass(frozen=True)
class FailedCell:
    """A cell that could not be run, with the reason, and the traceback of an error in the program."""

    cell: Cell
    reason: str
    traceback: str = ""
