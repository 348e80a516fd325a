"""A curve as tables and files: every ability and the edits' own scores against the number of edits."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from audit.errors import AuditError
from audit.reports.claims import curve_harm_sentence
from audit.reports.files import write_texts, written_into
from audit.reports.json_report import report_from_json, verdict_document
from audit.reports.rows import AbilityRow, EditScore, RunReport

CELL_WIDTH = len("0.000 ✗")
MARKS = {"FAIL": " ✗", "INCONCLUSIVE": " ?"}
# The edits' own scores that a curve shows: immediate efficacy beside what is retained at the end.
SCORES = {
    "immediate efficacy": "efficacy at once",
    "efficacy": "efficacy retained",
    "generalization": "generalization",
    "locality": "locality",
}
FIELDS = ("edits", "measure", "base", "value", "lower", "upper", "n", "outcome")


def abilities_of(points: Sequence[RunReport]) -> tuple[str, ...]:
    """The abilities that were asked at every point."""
    asked = [{row.ability for row in point.abilities} for point in points]
    return tuple(row.ability for row in points[0].abilities if all(row.ability in one for one in asked))


def ability_row(point: RunReport, ability: str) -> AbilityRow:
    """The verdict of an ability at a point that has it."""
    return next(row for row in point.abilities if row.ability == ability)


def edit_score(point: RunReport, measure: str) -> EditScore | None:
    """A measure of the edits themselves, by greedy answers, where it was measured."""
    found = (s for s in point.edit_scores if s.measure == measure and s.protocol == "autoregressive")
    return next((score for score in found if score.value is not None), None)


def curve_rows(points: Sequence[RunReport]) -> tuple[list[str], list[list[str]]]:
    """Headings and lines: one column a number of edits, one line an ability or a score of the edits."""
    headings = ["score after edits", "0", *(str(point.header.edit_count) for point in points)]
    lines = []
    for ability in abilities_of(points):
        rows = [ability_row(point, ability) for point in points]
        shown = [f"{row.edited:.3f}{MARKS.get(row.outcome, '')}" for row in rows]
        lines.append([rows[0].named, f"{rows[0].base:.3f}", *shown])
    for measure, title in SCORES.items():
        scores = [edit_score(point, measure) for point in points]
        if any(scores):
            lines.append([title, "", *("" if one is None else f"{one.value:.3f}" for one in scores)])
    return headings, lines


def curve_tables(points: Sequence[RunReport], width: int) -> list[Table]:
    """The same for a terminal of this width: as many tables below each other as it takes."""
    headings, lines = curve_rows(points)
    first = max(len(line[0]) for line in (headings, *lines))
    size = max(1, (width - first) // (CELL_WIDTH + 1))  # columns that fit beside the first
    tables = []
    for start in range(1, len(headings), size):
        columns = (0, *range(start, min(start + size, len(headings))))
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for column in columns:
            table.add_column(headings[column], justify="right" if column else "left", no_wrap=True)
        for line in lines:
            table.add_row(*(line[column] for column in columns))
        tables.append(table)
    return tables


def curve_markdown(points: Sequence[RunReport]) -> str:
    """The table with what it stands for, for a pull request."""
    header, last = points[-1].header, points[-1]
    headings, lines = curve_rows(points)
    margins = sorted({row.margin for row in last.abilities})
    items = max((row.n for row in last.abilities), default=0)
    table = [headings, ["---", *["--:"] * (len(headings) - 1)], *lines]
    return "\n".join(
        [
            f"# {header.method} on {header.model}: what more edits cost",
            "",
            *(f"- {line.removeprefix('audit: ')}" for line in header.lines()),
            "",
            *(f"| {' | '.join(cells)} |" for cells in table),
            "",
            f"✗ FAIL, ? INCONCLUSIVE, else PASS, under margins of {', '.join(f'{one:g}' for one in margins)} and at "
            f"most {items} items an ability. The bands of the figure are the one-sided 95 % limits of each point by "
            "itself; no correction is made for looking at several points.",
            "",
            curve_harm_sentence(points),
            "",
            "![the curves](curve.png)",
            "",
        ]
    )


def curve_csv(points: Sequence[RunReport]) -> str:
    """Long form: one line a point and measure; limits are those of the edited score."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    writer.writeheader()
    for point in points:
        for row in point.abilities:
            numbers = {
                "base": row.base,
                "value": row.edited,
                "lower": row.base - row.upper,
                "upper": row.base - row.lower,
            }
            _write(writer, point, row.named, numbers, {"n": row.n, "outcome": row.outcome})
        for score in point.edit_scores:
            limits = {"value": score.value, "lower": score.lower, "upper": score.upper}
            _write(writer, point, f"{score.measure} ({score.protocol})", limits, {"n": score.n})
    return stream.getvalue()


def read_curve(folder: Path) -> tuple[RunReport, ...]:
    """The points that an earlier run left in its folder.

    Raises:
        AuditError: there is no curve.
    """
    file = folder / "curve.json"
    try:
        points = json.loads(file.read_text(encoding="utf-8"))["points"]
    except (OSError, ValueError, KeyError, TypeError):
        raise AuditError(f"{file} holds no curve; give the folder of an earlier audit curve.") from None
    return tuple(report_from_json(json.dumps(point), origin=str(file)) for point in points)


def write_curve(points: Sequence[RunReport], folder: Path) -> tuple[Path, ...]:
    """Write `curve.json`, `.csv`, `.md`, `.png` and `.svg`; the files written."""
    from audit.reports.plots.curve import draw_curve  # matplotlib is slow to import

    texts = {
        "curve.json": json.dumps({"points": [verdict_document(point) for point in points]}, indent=1) + "\n",
        "curve.csv": curve_csv(points),
        "curve.md": curve_markdown(points),
    }
    with written_into(folder):
        return (*write_texts(folder, texts), *draw_curve(points, folder))


def _write(
    writer: "csv.DictWriter[str]",
    point: RunReport,
    measure: str,
    numbers: Mapping[str, float | None],
    more: Mapping[str, int | str],
) -> None:
    told = {name: "" if value is None else f"{value:.4f}" for name, value in numbers.items()}
    writer.writerow({"edits": point.header.edit_count, "measure": measure, **told, **more})
