"""One cell of a grid as an audit: its settings, its signature, and its result."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from audit.audit import Audit
from audit.errors import AuditError
from audit.measures.integrity import entry_shares
from audit.models.patches import originals_kept
from audit.reports.workflows.grid import Cell, CellResult, cell_file, read_cell
from audit.settings.options import AuditSettings


@dataclass(frozen=True)
class GridSettings:
    """The settings that all cells of a grid share; empty `abilities` means all eight.

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
            edit_mode=cell.mode,
            edit_count=cell.count,
            edit_batch_size=cell.batch_size if cell.mode == "batch-sequential" else None,
            limit=self.limit,
            seed=self.seed,
            device=self.device,
            dtype=self.dtype,
            triage=False,  # a collapsed model is a result as well
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
    signature = audit.signature(settings.abilities)
    if signature == kept:
        return None
    report = audit.run(settings.abilities or None)
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
