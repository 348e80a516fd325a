"""A curve as a picture: one panel an ability with its band, and one for the edits' own scores."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no window, whatever the machine has

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from audit.reports.rows import RunReport
from audit.reports.workflows.curve import SCORES, abilities_of, ability_row, edit_score

FORMATS = ("png", "svg")
PANELS_A_ROW = 3
COLORS = {"PASS": "tab:green", "INCONCLUSIVE": "tab:orange", "FAIL": "tab:red"}
SHAPES = {"PASS": "o", "INCONCLUSIVE": "s", "FAIL": "X"}  # for those who do not see the colors
SCORE_STYLES = dict(zip(SCORES, ("k--", "k-", "b:", "m-."), strict=True))
CLOSEST_TICKS = 1.4  # ratio of two numbers of edits whose labels have room side by side


def draw_curve(points: Sequence[RunReport], folder: Path) -> tuple[Path, ...]:
    """Write `curve` as PNG and SVG into `folder`; the files written."""
    figure = curve_plot(points)
    written = []
    for kind in FORMATS:
        file = folder / f"curve.{kind}"
        # Without dates and random ids, equal results give equal files.
        with plt.rc_context({"svg.hashsalt": "curve"}):
            figure.savefig(file, dpi=110, metadata={"Date": None} if kind == "svg" else None)
        written.append(file)
    plt.close(figure)
    return tuple(written)


def curve_plot(points: Sequence[RunReport]) -> Figure:
    """A panel an ability: edited score and its one-sided 95 % limits; and a panel for the edits' own scores."""
    abilities = abilities_of(points)
    scored = any(edit_score(point, measure) for point in points for measure in SCORES)
    panels = len(abilities) + scored
    columns = max(1, min(PANELS_A_ROW, panels))
    rows = -(-max(1, panels) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(4.6 * columns, 2.9 * rows + 1.0), squeeze=False)
    axes = list(grid.flat)
    for ability, panel in zip(abilities, axes, strict=False):
        _ability(panel, points, ability)
    if scored:
        _edit_scores(axes[len(abilities)], points)
    for panel in axes[panels:]:
        panel.set_axis_off()
    marks = [Line2D([], [], color=COLORS[word], marker=SHAPES[word], linestyle="", label=word) for word in COLORS]
    lines = [
        Line2D([], [], color="0.5", linestyle="--", label="unedited"),
        Line2D([], [], color="tab:red", linestyle=":", label="unedited less the margin"),
    ]
    figure.legend(handles=[*marks, *lines], loc="lower center", ncols=5, frameon=False)
    header = points[-1].header
    figure.suptitle(f"{header.method} on {header.model}, {header.plan}: scores against the number of edits")
    height = 2.9 * rows + 1.0  # inches: room for the legend below
    figure.tight_layout(rect=(0, 0.35 / height, 1, 1))
    return figure


def _ability(axes: Axes, points: Sequence[RunReport], ability: str) -> None:
    rows = [ability_row(point, ability) for point in points]
    counts = [point.header.edit_count for point in points]
    base, margin = rows[0].base, rows[0].margin
    axes.axhline(base, color="0.5", linestyle="--", linewidth=1)
    axes.axhline(base - margin, color="tab:red", linestyle=":", linewidth=1)
    below, above = [max(0.0, row.base - row.upper) for row in rows], [min(1.0, row.base - row.lower) for row in rows]
    axes.fill_between(counts, below, above, color="tab:blue", alpha=0.18, linewidth=0)
    axes.plot([0, *counts], [base, *(row.edited for row in rows)], color="tab:blue", linewidth=1.4)
    for count, row in zip(counts, rows, strict=True):
        axes.plot(count, row.edited, marker=SHAPES[row.outcome], color=COLORS[row.outcome], markersize=6)
    axes.set_title(f"{rows[0].named} (n {rows[0].n})", fontsize=10)
    _axis(axes, counts)


def _edit_scores(axes: Axes, points: Sequence[RunReport]) -> None:
    counts = [point.header.edit_count for point in points]
    for measure, title in SCORES.items():
        found = [(count, edit_score(point, measure)) for count, point in zip(counts, points, strict=True)]
        known = [(count, score) for count, score in found if score is not None]
        if not known:
            continue
        places, scores = [count for count, _ in known], [score for _, score in known]
        (line,) = axes.plot(
            places,
            [score.value or 0.0 for score in scores],
            SCORE_STYLES[measure],
            linewidth=1.3,
            marker=".",
            label=title,
        )
        if measure == "efficacy" and all(score.lower is not None for score in scores):
            lower, upper = [score.lower for score in scores], [score.upper for score in scores]
            axes.fill_between(places, lower, upper, color=line.get_color(), alpha=0.12, linewidth=0)  # type: ignore[arg-type]
    axes.set_title("the edits themselves", fontsize=10)
    axes.legend(fontsize=7, frameon=False, loc="lower left")
    _axis(axes, counts)


def _axis(axes: Axes, counts: Sequence[int]) -> None:
    """Edits on a scale that shows 0 and 1 as well as 100; labels that would touch are left out."""
    shown = [counts[-1]]
    for count in reversed(counts[:-1]):
        if count * CLOSEST_TICKS <= shown[-1]:
            shown.append(count)
    shown.append(0)
    axes.set_xscale("symlog", linthresh=1, linscale=0.3)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(count) for count in shown], fontsize=8)
    axes.set_xlabel("edits", fontsize=9)
    axes.set_ylim(-0.03, 1.03)
    axes.grid(alpha=0.25)
