"""The cells of a grid of audits with their results, and the folder that holds them.

    write_cell(result, root)             # cells/NAME.json, and cells/NAME.scores.jsonl with the scores of every item
    read_grid(root)                      # all results, sorted

Version 2 of a cell's file is written; versions 1 and 2 are read.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from audit.editors import CONTROLS
from audit.errors import AuditError, first_line
from audit.measures.edited_facts import EditedFact
from audit.reports.json_report import report_from_json, verdict_document
from audit.reports.rows import RunReport, usual_place
from audit.reports.run_sentences import edits_phrase
from audit.reports.workflows.grid_scores import AbilityScores, scores_from_jsonl, scores_jsonl
from audit.settings.values import file_name, short_name
from audit.store.files import parse_json, read_bytes
from audit.verdicts.noise import NoiseFloor

CELLS_FOLDER = "cells"
FORMATS = ("model-edit-audit grid cell 1", "model-edit-audit grid cell 2")
POCKET = "pocket"  # the source of edit requests that no name mentions


@dataclass(frozen=True, order=True)
class Cell:
    """One audit: `count` edit requests, `batch_size` per step, with `restraint` ("" for none).

    `seed` draws the requests from the source `edits`. `config` are hyperparameters of the editor, "KEY=VALUE" each.
    """

    model: str
    editor: str
    restraint: str
    mode: str
    batch_size: int
    count: int
    seed: int = 0
    edits: str = POCKET
    config: tuple[str, ...] = ()

    @property
    def series(self) -> "Series":
        """The series of cells that differ from this one only in the number of edits."""
        size = 0 if self.mode == "batch-single" else self.batch_size
        return Series(self.model, self.editor, self.restraint, self.mode, size, self.seed, self.edits, self.config)

    @property
    def steps(self) -> int:
        """The number of times that weights are written."""
        return -(-self.count // self.batch_size)

    @property
    def name(self) -> str:
        """A file name made of all parts of the cell, in characters that every file system accepts."""
        edits = "" if self.edits == POCKET else Path(self.edits).stem
        seed = f"seed{self.seed}" if self.seed else ""
        parts = (short_name(self.model), self.editor.rsplit(":", 1)[-1], *self.config, self.restraint, edits, self.mode)
        return "_".join([*(file_name(part) for part in (*parts, seed) if part), f"{self.count}x{self.batch_size}"])

    @property
    def title(self) -> str:
        """ "rome + rect:0.4, instance-sequential, 10 edits"."""
        return f"{self.series.title}, {edits_phrase(self.count)}"


@dataclass(frozen=True, order=True)
class Series:
    """Cells that differ only in the number of edits: a curve. `batch_size` 0 means all edits at once."""

    model: str
    editor: str
    restraint: str
    mode: str
    batch_size: int
    seed: int = 0
    edits: str = POCKET
    config: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """ "rome + rect:0.4, instance-sequential"."""
        editor = f"{self.editor} ({', '.join(self.config)})" if self.config else self.editor
        editor = f"{editor} + {self.restraint}" if self.restraint else editor
        size = f" of {self.batch_size}" if self.mode == "batch-sequential" else ""
        edits = "" if self.edits == POCKET else f", {Path(self.edits).stem}"
        return f"{editor}, {self.mode}{size}{edits}{f', seed {self.seed}' if self.seed else ''}"

    @property
    def short_title(self) -> str:
        """The title without the source and the seed, which all curves of a figure share."""
        return replace(self, edits=POCKET, seed=0).title


@dataclass(frozen=True, eq=False)
class CellResult:
    """A cell's report, the scores of its items, and its weight changes.

    entry_shares        maps a threshold of |ΔW / W| to the share of entries of the edited weights above it (the mean
                        over several edited models)
    signature           identifies what the result depends on: settings, weights, edits, versions
    asked               fingerprint of the settings alone, which is known before a model is loaded; "" in version 1
    scores              one for each ability; empty in version 1
    noise               by ability, the unedited model's scores against themselves in other batches (A/A)
    edits_made          edits computed for this cell; the others came from cells that share the edit plan, or the store
    processor_seconds   of this cell, without what its process had done before
    """

    cell: Cell
    report: RunReport
    entry_shares: Mapping[float, float]
    signature: str
    asked: str = ""
    scores: tuple[AbilityScores, ...] = ()
    noise: Mapping[str, NoiseFloor] = field(default_factory=dict)
    edits_made: int = 0
    processor_seconds: float = math.nan

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

    @property
    def seconds(self) -> float:
        """Wall seconds of the cell."""
        return sum(self.report.seconds.values())

    def _mean(self, number: str) -> float:
        found = [getattr(row.verdict, number) for row in self.report.abilities]
        return fmean(found) if found else math.nan


def cell_file(cell: Cell, root: Path) -> Path:
    """The path of a cell's file in a grid's folder."""
    return root / CELLS_FOLDER / f"{cell.name}.json"


def scores_file(file: Path) -> Path:
    """The path of the scores beside a cell's file."""
    return file.with_suffix(".scores.jsonl")


def write_cell(result: CellResult, root: Path, spellings: Sequence[tuple[str, str]] = ()) -> Path:
    """Write a cell's two files, each in one step, and return the first; `spellings` as in `cell_json`.

    Raises:
        AuditError: the folder cannot be written.
    """
    file = cell_file(result.cell, root)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _replace(scores_file(file), scores_jsonl(result.scores))
        _replace(file, cell_json(result, spellings))  # the last one, because it says that the cell is finished
    except OSError as error:
        raise AuditError(f"{file} cannot be written ({first_line(error)}); free some space.") from error
    return file


def _replace(file: Path, text: str) -> None:
    draft = file.with_suffix(f".{os.getpid()}.writing")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)


def cell_json(result: CellResult, spellings: Sequence[tuple[str, str]] = ()) -> str:
    """The text of a cell's file, without examples, items and scores.

    `spellings` are paths with what stands for them, so that a file has no path of the machine that wrote it.
    """
    document = {
        "format": FORMATS[-1],
        "signature": result.signature,
        "asked": result.asked,
        "cell": asdict(result.cell),
        "edits_made": result.edits_made,
        "processor_seconds": None if math.isnan(result.processor_seconds) else result.processor_seconds,
        "entry_shares": {str(threshold): share for threshold, share in result.entry_shares.items()},
        "noise": {ability: asdict(noise) for ability, noise in result.noise.items()},
        "report": verdict_document(_without_texts(result.report)),
    }
    return spelled(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", spellings)


def spelled(text: str, spellings: Sequence[tuple[str, str]]) -> str:
    """JSON text with each path as it is spelled in the grid's file."""
    for path, spelling in spellings:
        text = text.replace(json.dumps(path)[1:-1], json.dumps(spelling)[1:-1])
    return text


def read_cell(file: Path) -> CellResult:
    """Read the files that `write_cell` wrote.

    Raises:
        AuditError: a file cannot be read as (the scores of) a cell.
    """
    try:
        text, scores = read_bytes(file).decode("utf-8"), scores_file(file)
        kept = read_bytes(scores).decode("utf-8") if scores.exists() else ""
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None
    return cell_from_json(text, kept, origin=str(file))


def cell_from_json(text: str, scores: str, origin: str) -> CellResult:
    """Read the text of a cell's file and that of its scores; `origin` names the file in errors.

    Raises:
        AuditError: the text is not a cell.
    """
    try:
        document: dict[str, Any] = parse_json(text)
        if document["format"] not in FORMATS:
            raise AuditError(f"{origin} is a cell of format {document['format']!r}, not {FORMATS[-1]!r}; delete it.")
        seconds = document.get("processor_seconds")
        return CellResult(
            cell_from_plain(document["cell"]),
            report_from_json(json.dumps(document["report"]), origin=origin),
            {float(threshold): share for threshold, share in document["entry_shares"].items()},
            document["signature"],
            asked=document.get("asked", ""),
            scores=scores_from_jsonl(scores),
            noise={ability: NoiseFloor(**plain) for ability, plain in document.get("noise", {}).items()},
            edits_made=document.get("edits_made", 0),
            processor_seconds=math.nan if seconds is None else seconds,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(origin, error) from None


def cell_from_plain(plain: Mapping[str, Any]) -> Cell:
    """The cell from its fields as JSON data (`asdict`)."""
    return Cell(**{**plain, "config": tuple(plain.get("config", ()))})


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


def main_curves(results: Sequence[CellResult]) -> dict[Series, tuple[CellResult, ...]]:
    """The curves that a figure of one model shows: of the source of edits that most cells have, with the first seed.

    Controls and single instances are left out.
    """
    ((edits, _),) = Counter(result.cell.edits for result in results).most_common(1)
    seed = min(result.cell.seed for result in results)
    chosen = [result for result in results if (result.cell.edits, result.cell.seed) == (edits, seed)]
    return {
        series: cells
        for series, cells in by_series(chosen).items()
        if series.mode != "instance-single" and series.editor not in CONTROLS
    }


def abilities_of(results: Sequence[CellResult]) -> tuple[str, ...]:
    """The abilities that any cell has, in the usual order."""
    return tuple(sorted({row.ability for result in results for row in result.report.abilities}, key=usual_place))


def _unreadable(origin: object, error: Exception) -> AuditError:
    return AuditError(f"{origin} is not a cell of a grid ({error}); delete it, and the cell runs again.")


def _without_texts(report: RunReport) -> RunReport:
    """The report without examples and items, and with the keys alone of items that ask for an edited fact.

    A grid's folder has no row of a data set, and would be ten times as large with them.
    """
    rows = []
    for row in report.abilities:
        keys = tuple(EditedFact(fact.key) for fact in row.edited_facts)
        rows.append(replace(row, examples=(), edited_facts=keys))
    return replace(report, abilities=tuple(rows), items=())
