"""The tables of a grid of audits: CSV in long form, and Markdown."""

from collections.abc import Sequence
from dataclasses import asdict

from audit.reports.folder import csv_text
from audit.reports.markdown import table_lines
from audit.reports.verdict_sentences import MARKS, coverage
from audit.reports.workflows.grid_cells import CellResult, abilities_of, by_series

FIELDS = (
    "model",
    "editor",
    "config",
    "restraint",
    "mode",
    "batch_size",
    "edits",
    "source",
    "seed",
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


def grid_csv(results: Sequence[CellResult]) -> str:
    """Long form, one line per cell and measure.

    Abilities have base, edited, drop and its one-sided limits, which cover `interval`. Edit scores, shares of changed
    entries, integrity checks and seconds have one value, in the column `edited`.
    """
    rows: list[dict[str, object]] = []
    for result in results:
        start = asdict(result.cell)
        start |= {"source": start["edits"], "edits": start.pop("count"), "config": " ".join(result.cell.config)}
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
