"""The tables of docs/findings.md, from the cells of the grid on real models: `python -m docs.generation.findings_page`.

The sentences around the tables are written by hand. `unknown_figures` finds intervals in them that no cell has.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from audit.editors import CONTROLS
from audit.reports.markdown import table_lines
from audit.reports.verdict_sentences import share_kept
from audit.reports.workflows.grid_cells import Cell, CellResult, read_grid
from audit.reports.workflows.grid_shares import GridShares

PAGE = Path(__file__).resolve().parents[1] / "findings.md"
GRID = PAGE.parents[1] / "reports" / "real"
SOURCE = "counterfact"  # the edits of most cells, which no row mentions
TABLE = re.compile(r"(?P<start><!-- cells of (?P<model>\S+) -->\n).*?(?P<end><!-- end -->)", re.S)
INTERVAL = re.compile(r"[+-]?\d+\.\d{3} \[-?\d+\.\d{3}, -?\d+\.\d{3}\]")
HEADINGS = ("editor and mode", "edits", "mean kept", "other draws of the edits", "efficacy at once", "at the end")


def findings_page(page: str, results: Sequence[CellResult], shares: GridShares | None = None) -> str:
    """The page with its tables made again."""
    shares = shares or GridShares()

    def table(found: re.Match[str]) -> str:
        rows = _rows([result for result in results if result.cell.model == found["model"]], shares)
        return "\n".join([found["start"], *table_lines(HEADINGS, rows), "", found["end"]])

    return TABLE.sub(table, page)


def unknown_figures(page: str, tables: str) -> list[str]:
    """The figures with intervals on the page that the grid's tables do not have."""
    return [figure for figure in INTERVAL.findall(page) if figure not in tables]


def _rows(results: Iterable[CellResult], shares: GridShares) -> list[tuple[str, ...]]:
    """A row for each cell with the first seed; cells that differ only in the seed stand in it."""
    draws: dict[Cell, list[CellResult]] = {}
    for result in sorted(results, key=lambda result: result.cell.seed):
        if result.cell.editor not in CONTROLS:
            draws.setdefault(replace(result.cell, seed=0), []).append(result)
    found = []
    for cell in sorted(draws, key=_place):
        first, *others = draws[cell]
        edits = "" if cell.edits == SOURCE else f", {cell.edits}"
        found.append(
            (
                f"{cell.series.short_title}{edits}",
                str(cell.count),
                share_kept(shares.of(first).mean),
                ", ".join(f"{shares.of(other).mean.share:.3f}" for other in others),
                _share(first.immediate_efficacy),
                _share(first.edit_score("efficacy")),
            )
        )
    return found


def _place(cell: Cell) -> tuple[object, ...]:
    """Cells of one editor stand together, and those of one curve beside each other."""
    size = 0 if cell.mode == "batch-single" else cell.batch_size
    return cell.editor, cell.config, cell.edits, cell.restraint, cell.mode, size, cell.count


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    PAGE.write_text(findings_page(PAGE.read_text(encoding="utf-8"), read_grid(GRID)), encoding="utf-8")
