"""The cells of a grid: combinations of model, editor, restraint, mode and number of edits, each measured by an audit.

    cells = paper_cells(("pocket-gpt2", "pocket-llama"))
    cells = product_cells(models=("pocket-gpt2",), editors=("rome",), modes=("instance-sequential",), counts=(1, 10))

A cell is one audit and depends on no other cell, so cells can run in any order and in several processes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean

from audit.audit import Audit
from audit.edits.plan import BATCH_MODES, MODES
from audit.errors import AuditError
from audit.measures.integrity import entry_shares
from audit.models.patches import originals_kept
from audit.reports.workflows.grid import Cell, CellResult, cell_file, read_cell
from audit.settings.options import AuditSettings


def paper_cells(models: Sequence[str]) -> tuple[Cell, ...]:
    """The grid of Gu et al. (2024) in miniature: four editors with their modes, and RECT with its controls."""
    cells: list[Cell] = []
    for model in models:
        cells += [Cell(model, "kn", "", "instance-single", 1, 5)]
        cells += [Cell(model, "kn", "", "instance-sequential", 1, count) for count in (1, 5, 10)]
        cells += [Cell(model, "rome", "", "instance-single", 1, 5)]
        cells += [Cell(model, "rome", "", "instance-sequential", 1, count) for count in (1, 5, 10, 20, 50, 100)]
        for editor in ("mend", "memit"):
            cells += [Cell(model, editor, "", "instance-single", 1, 5)]
            cells += [Cell(model, editor, "", "instance-sequential", 1, count) for count in (1, 4, 10, 20, 50)]
            cells += [Cell(model, editor, "", "batch-single", count, count) for count in (10, 50, 100)]
            cells += [Cell(model, editor, "", "batch-sequential", 10, count) for count in (20, 50, 100)]
            cells += [Cell(model, editor, "", "batch-sequential", 50, count) for count in (100, 200)]
        for restraint in ("rect:0.4", "rect:0.2", "random:0.4", "prune"):
            cells += [Cell(model, "rome", restraint, "instance-sequential", 1, count) for count in (20, 50, 100)]
            cells += [Cell(model, "memit", restraint, "batch-sequential", 10, 100)]
    return tuple(cells)


def product_cells(
    *,
    models: Sequence[str],
    editors: Mapping[str, bool],
    counts: Sequence[int],
    modes: Sequence[str] = (),
    batch_sizes: Sequence[int] = (10,),
    restraints: Sequence[str] = ("",),
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
    for model, editor, restraint, count in product(models, editors, restraints, counts):
        for mode in modes or ("instance-sequential", "batch-single"):
            if mode in BATCH_MODES and not editors[editor]:
                continue
            sizes = [size for size in batch_sizes if size < count] if mode == "batch-sequential" else [0]
            for size in sizes:
                batch_size = size or (count if mode == "batch-single" else 1)
                cells[Cell(model, editor, restraint, mode, batch_size, count)] = None
    if not cells:
        raise AuditError(
            f"no combination of editors {', '.join(editors)} and modes {', '.join(modes)} can be run: "
            "batch modes need an editor that batches, such as memit, and batch-sequential counts above its batch size."
        )
    return tuple(cells)


@dataclass(frozen=True)
class GridSettings:
    """The settings that all cells of a grid share; `abilities` are names, files or classes, and none means all eight.

    Cells run in `workers` processes on this machine, or as tasks of the Ray cluster at `ray`.
    """

    root: Path
    limit: int = 200
    seed: int = 0
    edits: str = "pocket"
    device: str = "auto"
    dtype: str = "auto"
    abilities: tuple[str, ...] = ()
    workers: int = 1
    ray: str | None = None

    def audit_settings(self, cell: Cell) -> AuditSettings:
        """The settings of one cell's audit."""
        return AuditSettings(
            model=cell.model,
            editor=cell.editor,
            restraint=cell.restraint or None,
            edits=self.edits,
            ability=self.abilities,
            edit_mode=cell.mode,
            edit_count=cell.count,
            edit_batch_size=cell.batch_size if cell.mode == "batch-sequential" else None,
            limit=self.limit,
            seed=self.seed,
            device=self.device,
            dtype=self.dtype,
            triage=False,  # a collapsed model is a result as well, and so is an unchanged one
            allow_unchanged=True,
        )


@dataclass(frozen=True)
class FailedCell:
    """A cell that could not be run, with the reason."""

    cell: Cell
    reason: str


def measure_cell(cell: Cell, settings: GridSettings, kept: str | None) -> CellResult | None:
    """Run one cell; None if its signature is `kept`, that of an earlier result.

    Raises:
        AuditError: the audit cannot be run.
    """
    audit = Audit(settings.audit_settings(cell))
    audit.prepare()
    names = audit.settings.abilities.asked if settings.abilities else ()
    signature = audit.signature(names)
    if signature == kept:
        return None
    report = audit.run(names)
    return CellResult(cell, report, _entry_shares(audit), signature)


def kept_signature(cell: Cell, settings: GridSettings) -> str | None:
    """The signature of the result in the cell's file; None if there is no usable result."""
    file = cell_file(cell, settings.root)
    try:
        return read_cell(file).signature if file.exists() else None
    except AuditError:
        return None  # an incomplete file or an older format: run the cell again


def _entry_shares(audit: Audit) -> dict[float, float]:
    """The shares of entries that changed by more than each threshold, as means over the edited models."""
    measured = []
    for edited in audit.edited:
        with originals_kept(audit.lm) as originals:
            edited.patch.write(audit.lm, originals)
            measured.append(entry_shares(originals))
    return {threshold: fmean(one[threshold] for one in measured) for threshold in measured[0]}
