"""A curve as a figure: one panel per ability with its interval, and one for the scores of the edits."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from audit.reports.plots import write_figure
from audit.reports.rows import FOLLOWED_SCORES, AbilityRow, RunReport, shared_abilities
from audit.reports.verdict_sentences import coverage

PANELS_A_ROW = 3
COLORS = {"PASS": "tab:green", "INCONCLUSIVE": "tab:orange", "FAIL": "tab:red"}
SHAPES = {"PASS": "o", "INCONCLUSIVE": "s", "FAIL": "X"}  # for readers who do not see the colors
SCORE_STYLES = dict(zip(FOLLOWED_SCORES, ("k--", "k-", "b:", "m-."), strict=True))
CLOSEST_TICKS = 1.4  # ratio of two numbers of edits whose labels fit side by side


def draw_curve(points: Sequence[RunReport], folder: Path) -> tuple[Path, ...]:
    """Write `curve` as PNG and SVG into `folder`, and return the files."""
    return write_figure(curve_plot(points), folder, "curve")


def curve_plot(points: Sequence[RunReport]) -> Figure:
    """One panel per ability, with the edited score and its interval, and one panel for the scores of the edits."""
    abilities = shared_abilities(points)
    scored = any(point.edit_score(measure) for point in points for measure in FOLLOWED_SCORES)
    panels = len(abilities) + scored
    columns = max(1, min(PANELS_A_ROW, panels))
    rows = -(-max(1, panels) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(4.6 * columns, 2.9 * rows + 1.0), squeeze=False)
    axes = list(grid.flat)
    for ability, panel in zip(abilities, axes, strict=False):
        _ability(panel, points, [row for point in points if (row := point.ability(ability))])
    if scored:
        _edit_scores(axes[len(abilities)], points)
    for panel in axes[panels:]:
        panel.set_axis_off()
    marks = [Line2D([], [], color=COLORS[word], marker=SHAPES[word], linestyle="", label=word) for word in COLORS]
    lines = [
        Line2D([], [], color="0.5", linestyle="--", label="unedited"),
        Line2D([], [], color="tab:red", linestyle=":", label="unedited less the margin"),
        Patch(color="tab:blue", alpha=0.18, linewidth=0, label=_band_label(points)),
    ]
    figure.legend(handles=[*marks, *lines], loc="lower center", ncols=6, frameon=False)
    header = points[-1].header
    figure.suptitle(f"{header.method} on {header.model}, {header.plan}: scores against the number of edits")
    height = 2.9 * rows + 1.0  # inches: room for the legend below
    figure.tight_layout(rect=(0, 0.35 / height, 1, 1))
    return figure


def _band_label(points: Sequence[RunReport]) -> str:
    coverages = {coverage(row.verdict) for point in points for row in point.abilities}
    return f"{coverages.pop()} interval" if len(coverages) == 1 else "interval (one-sided limits)"


def _ability(axes: Axes, points: Sequence[RunReport], rows: Sequence[AbilityRow]) -> None:
    counts, verdicts = [point.header.edit_count for point in points], [row.verdict for row in rows]
    base, margin = verdicts[0].base, verdicts[0].margin
    axes.axhline(base, color="0.5", linestyle="--", linewidth=1)
    axes.axhline(base - margin, color="tab:red", linestyle=":", linewidth=1)
    below = [max(0.0, verdict.base - verdict.upper) for verdict in verdicts]
    above = [min(1.0, verdict.base - verdict.lower) for verdict in verdicts]
    axes.fill_between(counts, below, above, color="tab:blue", alpha=0.18, linewidth=0)
    axes.plot([0, *counts], [base, *(verdict.edited for verdict in verdicts)], color="tab:blue", linewidth=1.4)
    for count, verdict in zip(counts, verdicts, strict=True):
        axes.plot(count, verdict.edited, marker=SHAPES[verdict.outcome], color=COLORS[verdict.outcome], markersize=6)
    axes.set_title(f"{rows[0].label} (n {verdicts[0].n})", fontsize=10)
    _axis(axes, counts)


def _edit_scores(axes: Axes, points: Sequence[RunReport]) -> None:
    counts = [point.header.edit_count for point in points]
    for measure, title in FOLLOWED_SCORES.items():
        found = [(count, point.edit_score(measure)) for count, point in zip(counts, points, strict=True)]
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
            axes.fill_between(
                places,
                lower,  # type: ignore[arg-type]
                upper,  # type: ignore[arg-type]
                color=line.get_color(),
                alpha=0.12,
                linewidth=0,
                label="its 95 % interval (Wilson)",
            )
    axes.set_title("the edits themselves", fontsize=10)
    axes.legend(fontsize=7, frameon=False, loc="lower left")
    _axis(axes, counts)


def _axis(axes: Axes, counts: Sequence[int]) -> None:
    """A scale on which 0, 1 and 100 edits are apart; labels that would touch are left out."""
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
