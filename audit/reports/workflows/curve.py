"""A curve as tables and files: every ability and the edits' own scores against the number of edits."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from audit.reports.folder import csv_text, write_texts, written_into
from audit.reports.html.findings_page import Findings, FindingsTable, findings_html
from audit.reports.json_report import verdict_document
from audit.reports.markdown import table_lines
from audit.reports.rows import FOLLOWED_SCORES, RunReport, shared_abilities
from audit.reports.run_sentences import curve_harm_sentence, header_lines
from audit.reports.terminal import plain_table
from audit.reports.verdict_sentences import MARKS, coverage

CELL_WIDTH = len("0.000 ✗")
FIELDS = ("edits", "measure", "base", "value", "lower", "upper", "interval", "n", "outcome")


def curve_rows(points: Sequence[RunReport]) -> tuple[list[str], list[list[str]]]:
    """Headings and lines: one column per number of edits, one line per ability or score of the edits."""
    headings = ["score after edits", "0", *(str(point.header.edit_count) for point in points)]
    lines = []
    for ability in shared_abilities(points):
        rows = [row for point in points if (row := point.ability(ability))]
        shown = [f"{row.verdict.edited:.3f}{MARKS[row.outcome]}" for row in rows]
        lines.append([rows[0].label, f"{rows[0].verdict.base:.3f}", *shown])
    for measure, title in FOLLOWED_SCORES.items():
        scores = [point.edit_score(measure) for point in points]
        if any(scores):
            lines.append([title, "", *("" if one is None else f"{one.value:.3f}" for one in scores)])
    return headings, lines


def curve_tables(points: Sequence[RunReport], width: int) -> list[Table]:
    """The same for a terminal of this width, split into several tables if it is narrow."""
    headings, lines = curve_rows(points)
    widest = max(len(line[0]) for line in (headings, *lines))
    size = max(1, (width - widest) // (CELL_WIDTH + 1))  # columns that fit beside the first
    tables = []
    for start in range(1, len(headings), size):
        first, *shown = ([line[0], *line[start : start + size]] for line in (headings, *lines))
        tables.append(plain_table(first, shown))
    return tables


def curve_markdown(points: Sequence[RunReport]) -> str:
    """The table with an explanation, for a pull request."""
    headings, lines = curve_rows(points)
    return "\n".join(
        [
            f"# {_title(points)}",
            "",
            *header_lines(points[-1].header, "- "),
            "",
            *table_lines(headings, lines),
            "",
            _legend(points),
            "",
            curve_harm_sentence(points),
            "",
            "![the curves](curve.png)",
            "",
        ]
    )


def curve_html(points: Sequence[RunReport], svg: str) -> str:
    """The same as a page with the figure in it."""
    return findings_html(
        Findings(
            _title(points),
            [curve_harm_sentence(points)],
            header_lines(points[-1].header, ""),
            [FindingsTable("Scores after so many edits", *curve_rows(points))],
            [_legend(points)],
            svg,
            "One panel for each ability with the scores of the table and their intervals, and one for the edits.",
        )
    )


def _title(points: Sequence[RunReport]) -> str:
    header = points[-1].header
    return f"{header.method} on {header.model}: scores against the number of edits"


def _legend(points: Sequence[RunReport]) -> str:
    """What the marks and the bands are."""
    margins = sorted({row.verdict.margin for row in points[-1].abilities})
    items = max((row.verdict.n for row in points[-1].abilities), default=0)
    return (
        f"✗ FAIL, ? INCONCLUSIVE, else PASS, with margins of {', '.join(f'{one:g}' for one in margins)} and at "
        f"most {items} items per ability. The bands of the figure are 90 % intervals (between one-sided 95 % "
        "limits) of each point by itself, without correction for the number of points. The band of retained "
        "efficacy is Wilson's two-sided 95 % interval."
    )


def curve_csv(points: Sequence[RunReport]) -> str:
    """Long form: one line per point and measure. Limits are those of the edited score, `interval` is their coverage."""
    rows: list[dict[str, object]] = []
    for point in points:
        edits = point.header.edit_count
        for row in point.abilities:
            verdict = row.verdict
            numbers = (verdict.base, verdict.edited, verdict.base - verdict.upper, verdict.base - verdict.lower)
            more = {"interval": coverage(verdict), "n": verdict.n, "outcome": row.outcome}
            rows.append({"edits": edits, "measure": row.label, **_rounded(*numbers), **more})
        for score in point.edit_scores:
            measure, limits = (
                f"{score.measure} ({score.protocol})",
                _rounded(None, score.value, score.lower, score.upper),
            )
            more = {"interval": "" if score.lower is None else "95 %", "n": score.n}
            rows.append({"edits": edits, "measure": measure, **limits, **more})
    return csv_text(FIELDS, rows)


def write_curve(points: Sequence[RunReport], folder: Path) -> tuple[Path, ...]:
    """Write `curve.json`, `.csv`, `.md`, `.png`, `.svg` and `.html`; the files written."""
    from audit.reports.plots.curve import draw_curve  # matplotlib is slow to import

    texts = {
        "curve.json": json.dumps({"points": [verdict_document(point) for point in points]}, indent=1) + "\n",
        "curve.csv": curve_csv(points),
        "curve.md": curve_markdown(points),
    }
    with written_into(folder):
        files = (*write_texts(folder, texts), *draw_curve(points, folder))
        svg = (folder / "curve.svg").read_text(encoding="utf-8")
        return (*files, *write_texts(folder, {"curve.html": curve_html(points, svg)}))


def _rounded(*numbers: float | None) -> dict[str, str]:
    """The numbers of one row: base, value, lower and upper."""
    shown = ("" if number is None else f"{number:.4f}" for number in numbers)
    return dict(zip(("base", "value", "lower", "upper"), shown, strict=True))
