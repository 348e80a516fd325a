"""A grid of audits: its cells and their results, the folder that holds them, and its tables as CSV and Markdown."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from audit.errors import AuditError
from audit.reports.folder import csv_text
from audit.reports.json_report import report_from_json, verdict_document
from audit.reports.markdown import table_lines
from audit.reports.rows import RunReport, usual_place
from audit.reports.verdict_sentences import MARKS, coverage
from audit.settings.values import file_name, short_name
from audit.store.files import parse_json, read_bytes

CELLS_FOLDER = "cells"
FORMAT = "model-edit-audit grid cell 1"
FIELDS = (
    "model",
    "editor",
    "restraint",
    "mode",
    "batch_size",
    "edits",
    "measure",
    "base",
    "edited",
    "drop",
    "lower",
    "upper",
    "interval",
    "n",
    "outcome",
)


@dataclass(frozen=True, order=True)
class Cell:
    """One audit: `count` edit requests, `batch_size` per step, with `restraint` ("" for none)."""

    model: str
    editor: str
    restraint: str
    mode: str
    batch_size: int
    count: int

    @property
    def series(self) -> "Series":
        """The series of cells that differ from this one only in the number of edits."""
        size = 0 if self.mode == "batch-single" else self.batch_size
        return Series(self.model, self.editor, self.restraint, self.mode, size)

    @property
    def steps(self) -> int:
        """The number of times that weights are written."""
        return -(-self.count // self.batch_size)

    @property
    def name(self) -> str:
        """A file name made of all parts of the cell, in characters that every file system accepts."""
        parts = (short_name(self.model), self.editor.rsplit(":", 1)[-1], self.restraint, self.mode)
        return "_".join([*(file_name(part) for part in parts if part), f"{self.count}x{self.batch_size}"])


@dataclass(frozen=True, order=True)
class Series:
    """Cells that differ only in the number of edits: a curve. `batch_size` 0 means all edits at once."""

    model: str
    editor: str
    restraint: str
    mode: str
    batch_size: int

    @property
    def title(self) -> str:
        """ "rome + rect:0.4, instance-sequential"."""
        editor = f"{self.editor} + {self.restraint}" if self.restraint else self.editor
        size = f" of {self.batch_size}" if self.mode == "batch-sequential" else ""
        return f"{editor}, {self.mode}{size}"


@dataclass(frozen=True, eq=False)
class CellResult:
    """A cell's report and weight changes.

    `entry_shares` maps a threshold of |ΔW / W| to the share of entries of the edited weights above it (the mean over
    several edited models). `signature` identifies what the result depends on: settings, weights, edits, versions.
    """

    cell: Cell
    report: RunReport
    entry_shares: Mapping[float, float]
    signature: str

    @property
    def mean_drop(self) -> float:
        """The mean drop over the abilities, in score points; NaN if there are none."""
        return self._mean("drop")

    @property
    def mean_score(self) -> float:
        """The mean edited score over the abilities."""
        return self._mean("edited")

    @property
    def mean_base(self) -> float:
        """The mean base score over the abilities."""
        return self._mean("base")

    def edit_score(self, measure: str) -> float | None:
        """The value of an edit score at the end of the edit plan; None if it was not measured."""
        score = self.report.edit_score(measure)
        return None if score is None else score.value

    @property
    def immediate_efficacy(self) -> float | None:
        """Efficacy right after each edit; in edit plans of a single step it equals efficacy at the end."""
        immediate = self.edit_score("immediate efficacy")
        return self.edit_score("efficacy") if immediate is None else immediate

    def _mean(self, number: str) -> float:
        found = [getattr(row.verdict, number) for row in self.report.abilities]
        return fmean(found) if found else math.nan


def cell_file(cell: Cell, root: Path) -> Path:
    """The path of a cell's file in a grid's folder."""
    return root / CELLS_FOLDER / f"{cell.name}.json"


def write_cell(result: CellResult, root: Path) -> Path:
    """Write a cell's file in one step, and return it."""
    file = cell_file(result.cell, root)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}.writing")
    draft.write_text(cell_json(result), encoding="utf-8")
    os.replace(draft, file)
    return file


def cell_json(result: CellResult) -> str:
    """The text of a cell's file, without examples and items."""
    document = {
        "format": FORMAT,
        "signature": result.signature,
        "cell": asdict(result.cell),
        "entry_shares": {str(threshold): share for threshold, share in result.entry_shares.items()},
        "report": verdict_document(_without_examples(result.report)),
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_cell(file: Path) -> CellResult:
    """Read a file that `write_cell` wrote.

    Raises:
        AuditError: the file cannot be read as a cell.
    """
    try:
        text = read_bytes(file).decode("utf-8")
    except (OSError, ValueError) as error:
        raise AuditError(f"{file} is not a cell of a grid ({error}); delete it, and the cell runs again.") from None
    return cell_from_json(text, origin=str(file))


def cell_from_json(text: str, origin: str) -> CellResult:
    """Read the text of a cell's file; `origin` names the file in errors.

    Raises:
        AuditError: the text is not a cell.
    """
    try:
        document: dict[str, Any] = parse_json(text)
        if document["format"] != FORMAT:
            raise AuditError(f"{origin} is a cell of format {document['format']!r}, not {FORMAT!r}; delete it.")
        return CellResult(
            Cell(**document["cell"]),
            report_from_json(json.dumps(document["report"]), origin=origin),
            {float(threshold): share for threshold, share in document["entry_shares"].items()},
            document["signature"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditError(f"{origin} is not a cell of a grid ({error}); delete it, and the cell runs again.") from None


def read_grid(root: Path) -> tuple[CellResult, ...]:
    """All cells of a grid's folder, sorted.

    Raises:
        AuditError: the folder holds no cells, or one that cannot be read.
    """
    files = sorted((root / CELLS_FOLDER).glob("*.json"))
    if not files:
        raise AuditError(f"{root} holds no cells of a grid; run `audit grid --out {root}` first.")
    return tuple(sorted((read_cell(file) for file in files), key=lambda result: result.cell))


def by_series(results: Sequence[CellResult]) -> dict[Series, tuple[CellResult, ...]]:
    """The results as curves: each series with its cells, sorted by the number of edits."""
    found: dict[Series, list[CellResult]] = {}
    for result in sorted(results, key=lambda result: result.cell):
        found.setdefault(result.cell.series, []).append(result)
    return {series: tuple(sorted(cells, key=lambda result: result.cell.count)) for series, cells in found.items()}


def abilities_of(results: Sequence[CellResult]) -> tuple[str, ...]:
    """The abilities that any cell has, in the usual order."""
    return tuple(sorted({row.ability for result in results for row in result.report.abilities}, key=usual_place))


def _without_examples(report: RunReport) -> RunReport:
    """The report without examples and items, which would make a grid's folder ten times as large."""
    return replace(report, abilities=tuple(replace(row, examples=()) for row in report.abilities), items=())


def grid_csv(results: Sequence[CellResult]) -> str:
    """Long form, one line per cell and measure.

    Abilities have base, edited, drop and its one-sided limits, which cover `interval`. Edit scores, shares of changed
    entries, integrity checks and seconds have one value, in the column `edited`.
    """
    rows: list[dict[str, object]] = []
    for result in results:
        start = asdict(result.cell)
        start["edits"] = start.pop("count")
        for row in result.report.abilities:
            verdict, names = row.verdict, ("base", "edited", "drop", "lower", "upper")
            numbers = {name: f"{getattr(verdict, name):.4f}" for name in names}
            numbers |= {"interval": coverage(verdict), "n": str(verdict.n), "outcome": verdict.outcome}
            rows.append({**start, "measure": row.ability, **numbers})
        for score in result.report.edit_scores:
            value = "" if score.value is None else f"{score.value:.4f}"
            rows.append({**start, "measure": f"{score.measure} ({score.protocol})", "edited": value, "n": score.n})
        for threshold, share in result.entry_shares.items():
            rows.append({**start, "measure": f"entries changed by more than {threshold:g}", "edited": f"{share:.5f}"})
        for check in result.report.integrity:
            # Booleans become 0 or 1; None (not finite, or not measured) stays empty.
            value = "" if check.value is None else f"{float(check.value):.6g}"
            rows.append({**start, "measure": check.check, "edited": value})
        for stage, seconds in result.report.seconds.items():
            rows.append({**start, "measure": f"seconds, {stage}", "edited": f"{seconds:.2f}"})
    return csv_text(FIELDS, rows)


def grid_markdown(results: Sequence[CellResult]) -> str:
    """One table per model, one line per cell, one column per ability: the edited score, and its verdict's mark."""
    abilities = abilities_of(results)
    lines: list[str] = []
    for model in dict.fromkeys(result.cell.model for result in results):
        chosen = [result for result in results if result.cell.model == model]
        lines += [f"## {model}", "", *_table(chosen, abilities), ""]
    lines.append("✗ FAIL, ? INCONCLUSIVE, else PASS. `grid.csv` has the 90 % interval of every drop.\n")
    return "\n".join(lines)


def _table(results: Sequence[CellResult], abilities: Sequence[str]) -> list[str]:
    head = ["editor and mode", "edits", *abilities, "mean drop", "efficacy at once", "at the end", "locality"]
    bases = {row.ability: row.verdict.base for result in results for row in result.report.abilities}
    lines = [["unedited", "0", *(f"{bases[a]:.3f}" if a in bases else "" for a in abilities), "", "", "", ""]]
    for series, cells in by_series(results).items():
        for result in cells:
            scores = [_score(result, ability) for ability in abilities]
            edit = [result.immediate_efficacy, result.edit_score("efficacy"), result.edit_score("locality")]
            shown = ["" if value is None else f"{value:.2f}" for value in edit]
            lines.append([series.title, str(result.cell.count), *scores, f"{result.mean_drop:.3f}", *shown])
    return table_lines(head, lines)


def _score(result: CellResult, ability: str) -> str:
    row = result.report.ability(ability)
    return "" if row is None else f"{row.verdict.edited:.3f}{MARKS[row.outcome]}"
