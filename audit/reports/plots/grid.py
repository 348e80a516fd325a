"""A grid as figures, of each model: scores and shares kept against the number of edits."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from audit.reports.plots import write_figure
from audit.reports.workflows.grid_cells import CellResult, Series, abilities_of, by_series, main_curves
from audit.reports.workflows.grid_shares import GridShares
from audit.settings.values import short_name

PANELS_A_ROW, PANELS_IN_KEPT = 4, 3
SMALL_BATCH = 10  # sequences of larger batches get a line style of their own
EFFICACY_STYLE = {"color": "black", "linestyle": "--", "linewidth": 1.4}
DASHES = {"instance-sequential": "-", "batch-sequential": "--", "batch-single": ":"}
LOWEST, HIGHEST = -0.5, 1.3  # shares that a panel shows
ASIDE = 1.07  # ratio of the places of points with one number of edits

Curves = Mapping[Series, Sequence[CellResult]]


def draw_grid(results: Sequence[CellResult], folder: Path, shares: GridShares | None = None) -> tuple[Path, ...]:
    """Write `abilities-<model>`, `mean-drop-<model>` and, with scores, `kept-<model>` as PNG and SVG."""
    written: list[Path] = []
    for model in dict.fromkeys(result.cell.model for result in results):
        chosen = [result for result in results if result.cell.model == model]
        name, scored = short_name(model), [result for result in chosen if result.scores]
        figures = [("abilities", ability_panels(model, chosen)), ("mean-drop", mean_drops(model, chosen))]
        if scored:
            figures.append(("kept", kept_panels(model, scored, shares or GridShares())))
        for title, figure in figures:
            written += write_figure(figure, folder, f"{title}-{name}")
    return tuple(written)


def kept_panels(model: str, results: Sequence[CellResult], shares: GridShares) -> Figure:
    """The mean share kept and that of every ability, a line per series with its 90 % band.

    Its curves are those of `main_curves`.
    """
    series = main_curves(results)
    abilities = [name for name in abilities_of(results) if any(name in shares.of(one).tables for one in results)]
    rows = -(-(1 + len(abilities)) // PANELS_IN_KEPT)
    figure, panels = plt.subplots(rows, PANELS_IN_KEPT, figsize=(15, 3.6 * rows + 1.2), squeeze=False, sharey=True)
    counts = sorted({result.cell.count for cells in series.values() for result in cells})
    for axes, ability in zip(panels.flat, ["", *abilities], strict=False):
        _shares(axes, ability, series, shares)
        axes.set_xscale("log")
        axes.set_xlim(min(counts, default=1) / 1.25, max(counts, default=1) * 1.8)
        axes.xaxis.set_major_locator(FixedLocator(counts))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([str(count) for count in counts], fontsize=8)
        axes.set_xlabel("edits")
        axes.set_ylim(LOWEST, HIGHEST)
        axes.grid(alpha=0.25)
        axes.set_title(ability or "mean over these abilities", fontsize=10, fontweight=None if ability else "bold")
    for axes in list(panels.flat)[1 + len(abilities) :]:
        axes.set_axis_off()
    for row in panels:
        row[0].set_ylabel("share kept above the floor")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=5, frameon=False, fontsize=9)
    items = max((row.verdict.n for result in results for row in result.report.abilities), default=0)
    figure.suptitle(
        f"{model}: what is kept after editing (at most {items} items an ability, 90 % bands; shares below {LOWEST} "
        "are not shown)"
    )
    height, legend = 3.6 * rows + 1.2, 0.3 + 0.22 * -(-len(labels) // 5)  # inches
    figure.tight_layout(rect=(0, legend / height, 1, 1 - 0.1 / height))
    return figure


def _shares(axes: Axes, ability: str, series: Curves, shares: GridShares) -> None:
    """The lines of one ability, or of the mean for ""; a series of one cell is a point, beside the others."""
    looks, alone = _looks(series), 0
    for one, cells in series.items():
        points = [(c.cell.count, shares.of(c).kept.get(ability) if ability else shares.of(c).mean) for c in cells]
        known = [(float(count), share) for count, share in points if share is not None and share.share == share.share]
        if len(known) == 1:
            alone += 1
            known = [(known[0][0] * ASIDE**alone, known[0][1])]
        places, kept = [place for place, _ in known], [share for _, share in known]
        lower, upper = [share.lower for share in kept], [share.upper for share in kept]
        if len(known) > 1:
            axes.fill_between(places, lower, upper, color=looks[one]["color"], alpha=0.13, linewidth=0)
        else:
            axes.vlines(places, lower, upper, color=looks[one]["color"], alpha=0.5)
        face: dict[str, Any] = {"markerfacecolor": "white"} if one.restraint else {}
        axes.plot(places, [share.share for share in kept], **looks[one], **face, markersize=5, label=one.short_title)
    axes.axhline(1, color="0.6", linewidth=0.8)
    axes.axhline(0, color="0.6", linewidth=0.8, linestyle="--")


def _looks(series: Iterable[Series]) -> dict[Series, dict[str, Any]]:
    """The color of the editor, the dashes of the mode and the mark of the restraint, for each series."""
    some = list(series)
    editors = sorted({(one.editor, one.config) for one in some})
    colors = dict(zip(editors, plt.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]
    marks = dict(zip(sorted({one.restraint for one in some}), "os^Dv", strict=False))
    return {
        one: {
            "color": colors.get((one.editor, one.config), "black"),
            "linestyle": DASHES.get(one.mode, "-") if one.batch_size <= SMALL_BATCH else "-.",
            "marker": marks.get(one.restraint, "x"),
        }
        for one in some
    }


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
    looks = _looks(curves)
    for one, cells in curves.items():
        counts = [result.cell.count for result in cells]
        axes.plot(
            counts,
            [result.mean_drop for result in cells],
            **looks[one],
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
