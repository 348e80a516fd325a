"""A grid as tables: one CSV row a cell and measure, and Markdown to read."""

import csv
import io
from collections.abc import Sequence

from audit.workflows.grid.results import CellResult, abilities_of, by_series

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
    "n",
    "outcome",
)


def grid_csv(results: Sequence[CellResult]) -> str:
    """Long form, one measure a line: the abilities with base, edited, drop and its limits, then the edit's own scores,
    the shares of changed entries, the integrity checks and the seconds (all in `edited`)."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    writer.writeheader()
    for result in results:
        cell = result.cell
        start = {
            "model": cell.model,
            "editor": cell.editor,
            "restraint": cell.restraint,
            "mode": cell.mode,
            "batch_size": cell.batch_size,
            "edits": cell.count,
        }
        for row in result.report.abilities:
            numbers = {"base": row.base, "edited": row.edited, "drop": row.drop, "lower": row.lower, "upper": row.upper}
            rounded = {name: f"{value:.4f}" for name, value in numbers.items()}
            writer.writerow({**start, "measure": row.ability, **rounded, "n": row.n, "outcome": row.outcome})
        for score in result.report.edit_scores:
            value = "" if score.value is None else f"{score.value:.4f}"
            writer.writerow({**start, "measure": f"{score.measure} ({score.protocol})", "edited": value, "n": score.n})
        for threshold, share in result.entry_shares.items():
            writer.writerow(
                {**start, "measure": f"entries changed by more than {threshold:g}", "edited": f"{share:.5f}"}
            )
        for check in result.report.integrity:
            # Numbers and yes or no alike; None (not finite, or not measured) stays empty.
            value = "" if check.value is None else f"{float(check.value):.6g}"
            writer.writerow({**start, "measure": check.check, "edited": value})
        for stage, seconds in result.report.seconds.items():
            writer.writerow({**start, "measure": f"seconds, {stage}", "edited": f"{seconds:.2f}"})
    return stream.getvalue()


def grid_markdown(results: Sequence[CellResult]) -> str:
    """A table a model: one line a cell, one column an ability (edited score, ✗ where the verdict is FAIL)."""
    abilities = abilities_of(results)
    lines: list[str] = []
    for model in dict.fromkeys(result.cell.model for result in results):
        chosen = [result for result in results if result.cell.model == model]
        lines += [f"## {model}", "", *_table(chosen, abilities), ""]
    return "\n".join(lines)


def _table(results: Sequence[CellResult], abilities: Sequence[str]) -> list[str]:
    head = ["editor and mode", "edits", *abilities, "mean drop", "efficacy at once", "at the end", "locality"]
    lines = [_line(head), _line(["---", "--:", *["--:"] * (len(head) - 2)])]
    rows = (result.row(ability) for ability in abilities for result in results)
    bases = {row.ability: row.base for row in rows if row is not None}
    lines.append(
        _line(["unedited", "0", *(f"{bases[a]:.3f}" if a in bases else "" for a in abilities), "", "", "", ""])
    )
    for series, cells in by_series(results).items():
        for result in cells:
            scores = [_score(result, ability) for ability in abilities]
            edit = [result.immediate_efficacy, result.edit_score("efficacy"), result.edit_score("locality")]
            shown = ["" if value is None else f"{value:.2f}" for value in edit]
            lines.append(_line([series.title, str(result.cell.count), *scores, f"{result.mean_drop:.3f}", *shown]))
    return lines


def _score(result: CellResult, ability: str) -> str:
    row = result.row(ability)
    if row is None:
        return ""
    mark = {"FAIL": " ✗", "INCONCLUSIVE": " ?"}.get(row.outcome, "")
    return f"{row.edited:.3f}{mark}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
