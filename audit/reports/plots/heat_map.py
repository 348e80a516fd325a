"""Causal tracing as heat maps: the average indirect effect of a restored state, by layer and token role."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from audit.measures.causal_tracing import TOKEN_ROLES, Kind
from audit.measures.layer_recommendation import SUBJECT_LAST, TracingResult
from audit.reports.plots import write_figure
from audit.settings.values import short_name

COLORS: dict[Kind, str] = {"block": "Purples", "mlp": "Greens", "attention": "Reds"}
MOST_NUMBERED_LAYERS = 12  # with more, numbers in the cells are too small to read


def draw_heat_maps(result: TracingResult, folder: Path) -> tuple[Path, ...]:
    """Write `causal-tracing` as PNG and SVG into `folder`, and return the files."""
    return write_figure(heat_maps(result), folder, "causal-tracing", dpi=130)


def heat_maps(result: TracingResult) -> Figure:
    """One panel per kind of module: token roles down, layers across, the average indirect effect as color."""
    effects = result.effects
    figure, panels = plt.subplots(1, len(COLORS), figsize=(17, 4.6), sharey=True)
    for axes, kind in zip(panels, COLORS, strict=True):
        _panel(figure, axes, kind, result)
    roles = [f"{role}\n({n} facts)" for role, n in zip(TOKEN_ROLES, effects.role_facts, strict=True)]
    panels[0].set_yticks(range(len(TOKEN_ROLES)), roles)
    figure.suptitle(
        f"Where {short_name(result.model)} recalls facts: {effects.facts} of {result.asked} facts recalled, "
        f"{effects.samples} noise samples each\n"
        f"probability of the answer: {effects.clean:.2f} clean, {effects.corrupted:.2f} with noise on the "
        "subject; outlined: the recommended layers (solid ROME, dashed MEMIT)",
        fontsize=11,
    )
    figure.tight_layout(rect=(0, 0, 1, 1.03))
    return figure


def panel_title(kind: Kind, window: int) -> str:
    """Which states a panel restores."""
    if kind == "block":
        return "block output restored"
    name = "MLP" if kind == "mlp" else "attention"
    return f"{name} output restored" if window == 1 else f"{name} outputs restored in {window} layers"


def _panel(figure: Figure, axes: Axes, kind: Kind, result: TracingResult) -> None:
    effects = result.effects
    depth = len(result.recommendation.effects)
    rows = [row if row is not None else (np.nan,) * depth for row in effects.by_kind[kind]]
    values = np.array(rows, dtype=np.float64)  # (roles, layers)
    top = max(float(np.nanmax(values)), 0.01)
    image = axes.imshow(values, cmap=COLORS[kind], vmin=0.0, vmax=top, aspect="auto")
    if depth <= MOST_NUMBERED_LAYERS:
        _number(axes, values, top)
    axes.set_title(panel_title(kind, effects.window), fontsize=11)
    step = 1 if depth <= 24 else 4
    axes.set_xticks(range(0, depth, step))
    axes.set_xlabel("layer" if kind == "block" or effects.window == 1 else "middle layer of the window")
    axes.tick_params(length=0)
    if kind == "mlp":
        written = result.recommendation
        _outline(axes, written.memit, "--", 0.46)
        _outline(axes, (written.rome,), "-", 0.40)
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, extend="min" if np.nanmin(values) < 0 else "neither")
    bar.set_label("average indirect effect (probability)", fontsize=9)


def _number(axes: Axes, values: np.ndarray, top: float) -> None:
    for row, role in enumerate(values):
        for layer, value in enumerate(role):
            text = "–" if np.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00")
            color = "white" if value > 0.6 * top else "black"
            axes.text(layer, row, text, ha="center", va="center", fontsize=8, color=color)


def _outline(axes: Axes, layers: Sequence[int], style: str, half: float) -> None:
    """Draw a frame around `layers` in the row of the last subject token."""
    corner = (layers[0] - half, SUBJECT_LAST - half)
    width = layers[-1] - layers[0] + 2 * half
    axes.add_patch(Rectangle(corner, width, 2 * half, fill=False, linestyle=style, linewidth=1.6, edgecolor="black"))
