"""The changed weights of a checkpoint as a figure: where they are, their spectra, and the share of changed entries."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from audit.measures.checkpoint_diff import KEPT_SINGULAR_VALUES, PARAMETER_ROLES, CheckpointDiff, TensorChange
from audit.measures.integrity import THRESHOLDS
from audit.reports.plots import write_figure
from audit.settings.values import short_name

COLORS = dict(
    zip(PARAMETER_ROLES, ("tab:red", "tab:green", "tab:blue", "tab:orange", "tab:purple", "tab:gray"), strict=True)
)
MARKERS = dict(zip(PARAMETER_ROLES, "svodPX", strict=True))
MOST_SPECTRA = 6  # with more, lines hide each other


def draw_changes(diff: CheckpointDiff, folder: Path) -> tuple[Path, ...]:
    """Write `changes` as PNG and SVG into `folder`, and return the files; at least one tensor must have changed."""
    return write_figure(change_plot(diff), folder, "changes", dpi=130)


def change_plot(diff: CheckpointDiff) -> Figure:
    """Three panels: relative norms by layer and role, the spectra of the largest changes, and shares of entries."""
    figure, panels = plt.subplots(1, 3, figsize=(17, 5.0))
    _norms(panels[0], diff)
    _spectra(panels[1], diff.changes)
    _shares(panels[2], diff)
    base, edited = short_name(diff.base), short_name(diff.edited)
    figure.suptitle(f"What {edited} changed in {base}: {len(diff.changes)} of {diff.tensors} tensors", fontsize=12)
    figure.tight_layout()
    return figure


def _norms(axes: Axes, diff: CheckpointDiff) -> None:
    """One mark per tensor; tensors before the layers are on the left, tensors after them on the right."""
    roles = _roles(diff.changes)
    for number, role in enumerate(roles):
        chosen = [change for change in diff.changes if change.role == role and 0 < change.relative_norm < np.inf]
        beside = 0.14 * (number - (len(roles) - 1) / 2)  # marks of one layer side by side
        places = [_place(change, diff.depth) + beside for change in chosen]
        norms = [change.relative_norm for change in chosen]
        axes.scatter(
            places, norms, color=COLORS[role], marker=MARKERS[role], s=42, alpha=0.75, label=role, linewidths=0
        )
    _decades(axes, [change.relative_norm for change in diff.changes])
    step = max(1, diff.depth // 12)
    layers = list(range(0, diff.depth, step))
    axes.set_xticks([-1, *layers, diff.depth], ["before", *map(str, layers), "after"])
    axes.set_xlim(-1.6, diff.depth + 0.6)
    axes.set_xlabel("layer")
    axes.set_ylabel("relative norm ‖ΔW‖ / ‖W‖ (Frobenius)")
    axes.set_title("relative norm of each change", fontsize=11)
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize=9)


def _spectra(axes: Axes, changes: Sequence[TensorChange]) -> None:
    """The singular values above rounding error, of the matrices that changed most."""
    matrices = [change for change in changes if change.numerical_rank][:MOST_SPECTRA]
    shown: list[float] = []
    for number, change in enumerate(matrices):
        values = change.singular_values[: change.numerical_rank]
        shown += values
        axes.plot(
            range(1, len(values) + 1),
            values,
            marker=MARKERS[change.role],
            markersize=4,
            linewidth=1.2,
            color=plt.get_cmap("tab10")(number),
            label=f"{change.name.removesuffix('.weight')} (rank {change.numerical_rank}, "
            f"effective {change.effective_rank:.1f})",
        )
    _decades(axes, shown)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"number i of the singular value (the first {KEPT_SINGULAR_VALUES} at most)")
    axes.set_ylabel("singular value σᵢ of ΔW")
    axes.set_title(
        "singular values" + (f" (the {len(matrices)} matrices that changed most)" if matrices[1:] else ""),
        fontsize=11,
    )
    axes.grid(color="0.9")
    if matrices:
        axes.legend(fontsize=7.5)


def _decades(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis that ends at powers of ten, with plain numbers as labels."""
    drawn = [value for value in values if 0 < value < np.inf] or [1.0]
    low, high = np.floor(np.log10(min(drawn)) - 0.05), np.ceil(np.log10(max(drawn)) + 0.05)
    axes.set_yscale("log")
    axes.set_ylim(10.0**low, 10.0**high)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _shares(axes: Axes, diff: CheckpointDiff) -> None:
    """Shares over all changed tensors of a role."""
    for role in _roles(diff.changes):
        chosen = [change for change in diff.changes if change.role == role]
        entries = sum(change.entries for change in chosen)
        shares = [sum(change.entry_shares[t] * change.entries for change in chosen) / entries for t in THRESHOLDS]
        axes.plot(
            range(len(THRESHOLDS)), [100 * x for x in shares], color=COLORS[role], marker=MARKERS[role], label=role
        )
    axes.set_xticks(range(len(THRESHOLDS)), [f"{threshold:g}" for threshold in THRESHOLDS])
    axes.set_ylim(-3, 103)
    axes.set_xlabel("threshold on |ΔW / W|")
    axes.set_ylabel("entries of the changed tensors above it (%)")
    axes.set_title("share of changed entries", fontsize=11)
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize=9)


def _roles(changes: Sequence[TensorChange]) -> list[str]:
    return [role for role in PARAMETER_ROLES if any(change.role == role for change in changes)]


def _place(change: TensorChange, depth: int) -> int:
    """The position on the axis: embeddings before the first layer, other tensors without a layer after the last."""
    if change.layer is not None:
        return change.layer
    return -1 if change.role == "embedding" else depth
