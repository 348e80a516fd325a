"""The chart of one model of a grid: what is kept against the number of edits, as places on two axes.

Places are per cent of the width and the height, so marks and texts keep their form at any width. Without the scores of
the items there are no shares, and the chart is that of the mean drop, without limits.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from audit.reports.verdict_sentences import share_kept
from audit.reports.workflows.grid_cells import CellResult, Series, main_curves
from audit.reports.workflows.grid_shares import GridShares
from audit.verdicts.evidence import Kept

LEFT, RIGHT, TOP, BOTTOM = 9.0, 97.0, 3.0, 90.0  # per cent: the plot without its labels
COLORS = 8  # of editors, in the style sheet
DASHES = {"instance-sequential": "solid", "batch-sequential": "dashed", "batch-single": "dotted"}
SMALL_BATCH = 10  # sequences of larger batches are "dashdot"
MARKS = ("circle", "square", "triangle", "diamond", "cross")  # by restraint
ASIDE, MOST_ASIDE = 0.9, 6.0  # per cent between curves at one number of edits, so that no limits are hidden; of all
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
MOST_LEVELS = 8


@dataclass(frozen=True)
class Point:
    """One cell: its places, those of its limits (None without scores), and its numbers in words."""

    x: float
    y: float
    lower: float | None
    upper: float | None
    text: str


@dataclass(frozen=True)
class Line:
    """One series: the color of the editor, the dashes of the mode, the mark of the restraint."""

    name: str
    color: int
    dash: str
    mark: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class GridChart:
    """The lines, the labels of both axes with their places, that of the unedited model, and its A/A band.

    `band` are the places of its ends and its half width; None where no noise was measured.
    """

    kept: bool
    lines: tuple[Line, ...]
    counts: tuple[tuple[float, str], ...]
    levels: tuple[tuple[float, str], ...]
    unedited: float
    band: tuple[float, float, float] | None


def grid_chart(results: Sequence[CellResult], shares: GridShares) -> GridChart | None:
    """The chart of the cells of one model; None if there is nothing to draw."""
    kept = any(result.scores for result in results)
    curves = {
        series: known
        for series, cells in main_curves(results).items()
        if (known := [(cell.cell.count, level) for cell in cells if (level := _level(cell, shares, kept)) is not None])
    }
    if not curves:
        return None
    unedited, noise = float(kept), _noise(results, shares, kept)
    levels = [
        *(end for known in curves.values() for _, level in known for end in level if math.isfinite(end)),
        unedited,
    ]
    width = 0.0 if noise is None else noise
    ticks = _ticks(min(0.0, *levels), max(*levels, unedited + width))
    apart = min(ASIDE, MOST_ASIDE / len(curves))
    counts = sorted({count for known in curves.values() for count, _ in known})

    def x(count: int) -> float:
        first, last = math.log(counts[0]), math.log(counts[-1])
        room = apart * len(curves) / 2
        share = (math.log(count) - first) / (last - first) if last > first else 0.5
        return LEFT + room + share * (RIGHT - LEFT - 2 * room)

    def y(level: float) -> float:
        share = (level - ticks[0]) / (ticks[-1] - ticks[0])
        return round(BOTTOM - (BOTTOM - TOP) * min(1.0, max(0.0, share)), 2)  # a limit may be infinite

    looks = _looks(curves)
    lines = []
    for place, (series, known) in enumerate(curves.items()):
        aside = apart * (place - (len(curves) - 1) / 2)
        points = [
            Point(
                round(x(count) + aside, 2),
                y(level.share),
                None if math.isnan(level.lower) else y(level.lower),
                None if math.isnan(level.upper) else y(level.upper),
                f"{series.short_title}, {count}: {_words(level)}",
            )
            for count, level in known
        ]
        lines.append(Line(series.short_title, *looks[series], tuple(points)))
    return GridChart(
        kept,
        tuple(lines),
        tuple((round(x(count), 2), str(count)) for count in counts),
        tuple((y(tick), f"{tick:g}") for tick in ticks),
        y(unedited),
        None if noise is None else (y(unedited + noise), y(unedited - noise), noise),
    )


def _level(result: CellResult, shares: GridShares, kept: bool) -> Kept | None:
    """The mean share kept, or the mean drop without limits; None where there is none."""
    level = shares.of(result).mean if kept else Kept(result.mean_drop, math.nan, math.nan)
    return None if math.isnan(level.share) else level


def _noise(results: Sequence[CellResult], shares: GridShares, kept: bool) -> float | None:
    """How far the mean of the unedited model moves at most in other batches, by the limits of its abilities."""
    for result in results:
        tables = shares.of(result).tables
        names = [name for name in result.noise if name in tables or not kept]
        if names:
            return fmean(result.noise[name].floor / (tables[name].height if kept else 1.0) for name in names)
    return None


def _ticks(low: float, high: float) -> list[float]:
    """Levels at a round distance, of which the first and the last are around everything."""
    step = next((step for step in STEPS if (high - low) / step <= MOST_LEVELS - 1), STEPS[-1])
    first, last = math.floor(low / step + 1e-9), max(math.ceil(high / step - 1e-9), math.floor(low / step) + 1)
    return [round(number * step, 6) for number in range(first, last + 1)]


def _looks(curves: Iterable[Series]) -> dict[Series, tuple[int, str, str]]:
    """The color, dashes and mark of each series."""
    some = list(curves)
    editors = {editor: place for place, editor in enumerate(sorted({(one.editor, one.config) for one in some}))}
    restraints = {one: place for place, one in enumerate(sorted({one.restraint for one in some}))}
    return {
        one: (
            1 + editors[one.editor, one.config] % COLORS,
            DASHES.get(one.mode, "solid") if one.batch_size <= SMALL_BATCH else "dashdot",
            MARKS[restraints[one.restraint] % len(MARKS)],
        )
        for one in some
    }


def _words(level: Kept) -> str:
    return f"{level.share:.3f}" if math.isnan(level.lower) else share_kept(level)
