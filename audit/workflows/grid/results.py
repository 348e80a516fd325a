"""The result of a cell as plain data, and the folder of all cells."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from audit.abilities import ABILITIES
from audit.errors import AuditError
from audit.reports.json_report import report_from_json, verdict_document
from audit.reports.rows import AbilityRow, RunReport
from audit.workflows.grid.cells import Cell, Series

CELLS_FOLDER = "cells"
FORMAT = "model-edit-audit grid cell 1"


@dataclass(frozen=True, eq=False)
class CellResult:
    """A cell's report, and the share of entries of the touched weights that changed by more than a threshold.

    `entry_shares` maps a threshold of |ΔW / W| to that share (of several edited models the mean); `signature` says
    what the result depends on: settings, weights, edits, versions.
    """

    cell: Cell
    report: RunReport
    entry_shares: Mapping[float, float]
    signature: str

    def row(self, ability: str) -> AbilityRow | None:
        """The verdict on one ability; None when it was not asked."""
        return next((row for row in self.report.abilities if row.ability == ability), None)

    @property
    def mean_drop(self) -> float:
        """The mean drop over the abilities, in score points; NaN without any."""
        return fmean(row.drop for row in self.report.abilities) if self.report.abilities else math.nan

    @property
    def mean_score(self) -> float:
        """The mean edited score over the abilities."""
        return fmean(row.edited for row in self.report.abilities) if self.report.abilities else math.nan

    @property
    def mean_base(self) -> float:
        """The mean base score over the abilities."""
        return fmean(row.base for row in self.report.abilities) if self.report.abilities else math.nan

    def edit_score(self, measure: str, protocol: str = "autoregressive") -> float | None:
        """One of the edit's own scores at the end of the plan; None when it was not measured."""
        found = (one for one in self.report.edit_scores if (one.measure, one.protocol) == (measure, protocol))
        return next((one.value for one in found), None)

    @property
    def immediate_efficacy(self) -> float | None:
        """Efficacy right after each edit; plans that do not pile up have one efficacy only."""
        immediate = self.edit_score("immediate efficacy")
        return self.edit_score("efficacy") if immediate is None else immediate


def cell_file(cell: Cell, root: Path) -> Path:
    """Where a cell lies in a grid's folder."""
    return root / CELLS_FOLDER / f"{cell.name}.json"


def write_cell(result: CellResult, root: Path) -> Path:
    """Write a cell's file whole or not at all, and return it."""
    file = cell_file(result.cell, root)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}.writing")
    draft.write_text(cell_json(result), encoding="utf-8")
    os.replace(draft, file)
    return file


def cell_json(result: CellResult) -> str:
    """A cell's file as text, without examples and items."""
    document = {
        "format": FORMAT,
        "signature": result.signature,
        "cell": asdict(result.cell),
        "entry_shares": {str(threshold): share for threshold, share in result.entry_shares.items()},
        "report": verdict_document(_without_examples(result.report)),
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_cell(file: Path) -> CellResult:
    """Read what `write_cell` wrote.

    Raises:
        AuditError: the file cannot be read as a cell.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise AuditError(f"{file} is no cell of a grid ({error}); delete it to run it again.") from None
    return cell_from_json(text, origin=str(file))


def cell_from_json(text: str, origin: str) -> CellResult:
    """Read what `cell_json` gave; `origin` names the file in errors (`AuditError`)."""
    try:
        document: dict[str, Any] = json.loads(text)
        if document["format"] != FORMAT:
            raise AuditError(f"{origin} is a cell of format {document['format']!r}, not {FORMAT!r}; delete it.")
        return CellResult(
            Cell(**document["cell"]),
            report_from_json(json.dumps(document["report"]), origin=origin),
            {float(threshold): share for threshold, share in document["entry_shares"].items()},
            document["signature"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditError(f"{origin} is no cell of a grid ({error}); delete it to run it again.") from None


def read_grid(root: Path) -> tuple[CellResult, ...]:
    """Every cell of a grid's folder, in the order of cells."""
    files = sorted((root / CELLS_FOLDER).glob("*.json"))
    if not files:
        raise AuditError(f"{root} holds no cells of a grid; run `audit grid --out {root}` first.")
    return tuple(sorted((read_cell(file) for file in files), key=lambda result: result.cell))


def by_series(results: Sequence[CellResult]) -> dict[Series, tuple[CellResult, ...]]:
    """The results as curves: each series with its cells in the order of their numbers of edits."""
    found: dict[Series, list[CellResult]] = {}
    for result in sorted(results, key=lambda result: result.cell):
        found.setdefault(result.cell.series, []).append(result)
    return {series: tuple(sorted(cells, key=lambda result: result.cell.count)) for series, cells in found.items()}


def abilities_of(results: Sequence[CellResult]) -> tuple[str, ...]:
    """The abilities that any cell asked, in their usual order."""
    asked = {row.ability for result in results for row in result.report.abilities}
    return (*(name for name in ABILITIES if name in asked), *sorted(asked - set(ABILITIES)))


def _without_examples(report: RunReport) -> RunReport:
    """A grid keeps numbers; examples of wrong answers would make its folder ten times as large."""
    return replace(report, abilities=tuple(replace(row, examples=()) for row in report.abilities), items=())
