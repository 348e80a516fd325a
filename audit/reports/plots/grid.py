"""A grid as figures: scores against the number of edits, one panel per series, one figure per model."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from audit.reports.plots import write_figure
from audit.reports.workflows.grid_cells import CellResult, Series, abilities_of, by_series
from audit.settings.values import short_name

PANELS_A_ROW = 4
SMALL_BATCH = 10  # sequences of larger batches get a line style of their own
EFFICACY_STYLE = {"color": "black", "linestyle": "--", "linewidth": 1.4}


def draw_grid(results: Sequence[CellResult], folder: Path) -> tuple[Path, ...]:
    """Write `abilities-<model>` and `mean-drop-<model>` as PNG and SVG, and return the files."""
    written: list[Path] = []
    for model in dict.fromkeys(result.cell.model for result in results):
        chosen = [result for result in results if result.cell.model == model]
        name = short_name(model)
        for title, figure in (("abilities", ability_panels(model, chosen)), ("mean-drop", mean_drops(model, chosen))):
            written += write_figure(figure, folder, f"{title}-{name}")
    return tuple(written)


def ability_panels(model: str, results: Sequence[CellResult]) -> Figure:
    """One panel per series: the edited score of every ability, and efficacy right after each edit."""
    series = {one: cells for one, cells in by_series(results).items() if one.mode != "instance-single"}
    abilities = abilities_of(results)
    rows = -(-max(1, len(series)) // PANELS_A_ROW)
    figure, panels = plt.subplots(rows, PANELS_A_ROW, figsize=(16, 2.9 * rows + 1.1), squeeze=False, sharey=True)
    colors = dict(zip(abilities, plt.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]
    for axes, (one, cells) in zip(panels.flat, series.items(), strict=False):
        _panel(axes, one, cells, abilities, colors)
    for axes in list(panels.flat)[len(series) :]:
        axes.set_axis_off()
    for row in panels:
        row[0].set_ylabel("score")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    items = max((row.verdict.n for result in results for row in result.report.abilities), default=0)
    figure.suptitle(f"{model}: abilities after editing (at most {items} items per ability)")
    height = 2.9 * rows + 1.1  # inches: room for the legend below and the title above
    figure.tight_layout(rect=(0, 0.45 / height, 1, 1 - 0.15 / height))
    return figure


def mean_drops(model: str, results: Sequence[CellResult]) -> Figure:
    """The mean drop over the abilities, for every series with several numbers of edits."""
    figure, axes = plt.subplots(figsize=(9, 6))
    curves = {one: cells for one, cells in by_series(results).items() if len(cells) > 1}
    editors = sorted({one.editor for one in curves})
    colors = dict(zip(editors, plt.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]
    dashes = {"instance-sequential": "-", "batch-sequential": "--", "batch-single": ":"}
    marks = dict(zip(sorted({one.restraint for one in curves}), "os^Dv", strict=False))
    for one, cells in curves.items():
        counts = [result.cell.count for result in cells]
        axes.plot(
            counts,
            [result.mean_drop for result in cells],
            color=colors[one.editor],
            linestyle=dashes.get(one.mode, "-") if one.batch_size <= SMALL_BATCH else "-.",
            marker=marks.get(one.restraint, "x"),
            label=one.title,
        )
    _count_axis(axes, sorted({result.cell.count for cells in curves.values() for result in cells}))
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.set_ylabel("mean drop over the abilities (score points)")
    axes.set_title(f"{model}: mean drop after editing")
    if curves:
        axes.legend(fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    return figure


def _panel(
    axes: Axes, series: Series, cells: Sequence[CellResult], abilities: Sequence[str], colors: dict[str, object]
) -> None:
    counts = [0, *(result.cell.count for result in cells)]
    for ability in abilities:
        rows = [result.report.ability(ability) for result in cells]
        if all(row is not None for row in rows):
            scores = [rows[0].verdict.base, *(row.verdict.edited for row in rows)]  # type: ignore[union-attr]
            axes.plot(counts, scores, marker="o", markersize=3, color=colors[ability], label=ability)
    efficacy = [(result.cell.count, result.immediate_efficacy) for result in cells]
    known = [(count, value) for count, value in efficacy if value is not None]
    if known:
        axes.plot(*zip(*known, strict=True), label="efficacy right after the edit", **EFFICACY_STYLE)  # type: ignore[arg-type]
    _count_axis(axes, counts)
    axes.set_ylim(-0.03, 1.03)
    axes.set_title(series.title, fontsize=9)


def _count_axis(axes: Axes, counts: Sequence[int]) -> None:
    """A scale on which 0, 1 and 100 edits are apart."""
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_locator(FixedLocator(list(counts)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(count) for count in counts], fontsize=8)
    axes.set_xlabel("edits")
    axes.grid(alpha=0.25)
