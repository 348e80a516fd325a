"""What a checkpoint changed, as a picture: where, in how many directions, and in which entries."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no window, whatever the machine has

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audit.measures.checkpoint_diff import ROLES, CheckpointDiff, TensorChange
from audit.measures.weight_changes import THRESHOLDS

FORMATS = ("png", "svg")
COLORS = dict(zip(ROLES, ("tab:red", "tab:green", "tab:blue", "tab:orange", "tab:purple", "tab:gray"), strict=True))
MARKERS = dict(zip(ROLES, "svodPX", strict=True))
MOST_SPECTRA = 6  # with more, lines hide each other
SMALLEST = 1e-9  # of a share or a relative norm that is drawn on a logarithmic axis


def draw_changes(diff: CheckpointDiff, folder: Path) -> tuple[Path, ...]:
    """Write `changes` as PNG and SVG into `folder`; the files written. There must be a changed tensor."""
    figure = change_plot(diff)
    written: list[Path] = []
    for kind in FORMATS:
        file = folder / f"changes.{kind}"
        # Without dates and random ids, equal results give equal files.
        with plt.rc_context({"svg.hashsalt": "changes"}):
            figure.savefig(file, dpi=130, metadata={"Date": None} if kind == "svg" else None)
        written.append(file)
    plt.close(figure)
    return tuple(written)


def change_plot(diff: CheckpointDiff) -> Figure:
    """Three panels: relative norms by layer and role, the spectra of the largest changes, and shares of entries."""
    figure, panels = plt.subplots(1, 3, figsize=(17, 5.0))
    _norms(panels[0], diff)
    _spectra(panels[1], diff.changes)
    _shares(panels[2], diff)
    base, edited = (name.rstrip("/").rsplit("/", 1)[-1] for name in (diff.base, diff.edited))
    figure.suptitle(f"What {edited} changed in {base}: {len(diff.changes)} of {diff.tensors} tensors", fontsize=12)
    figure.tight_layout()
    return figure


def _norms(axes: Axes, diff: CheckpointDiff) -> None:
    """One mark a tensor: those before the layers on the left, those after them on the right."""
    for role in _roles(diff.changes):
        chosen = [change for change in diff.changes if change.role == role and np.isfinite(change.relative_norm)]
        places = [_place(change, diff.depth) for change in chosen]
        norms = [max(change.relative_norm, SMALLEST) for change in chosen]
        axes.scatter(
            places, norms, color=COLORS[role], marker=MARKERS[role], s=42, alpha=0.75, label=role, linewidths=0
        )
    axes.set_yscale("log")
    step = max(1, diff.depth // 12)
    layers = list(range(0, diff.depth, step))
    axes.set_xticks([-1, *layers, diff.depth], ["before", *map(str, layers), "after"])
    axes.set_xlim(-1.6, diff.depth + 0.6)
    axes.set_xlabel("layer")
    axes.set_ylabel("relative norm ‖ΔW‖ / ‖W‖ (Frobenius)")
    axes.set_title("how much each tensor changed", fontsize=11)
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize=9)


def _spectra(axes: Axes, changes: Sequence[TensorChange]) -> None:
    matrices = [change for change in changes if change.singular_values and change.singular_values[0] > 0]
    for number, change in enumerate(matrices[:MOST_SPECTRA]):
        values = np.array(change.singular_values)
        shown = values[values > 0]
        axes.plot(
            np.arange(1, len(shown) + 1),
            shown,
            marker=MARKERS[change.role],
            markersize=4,
            linewidth=1.2,
            color=plt.get_cmap("tab10")(number),
            label=f"{change.name.removesuffix('.weight')} (rank {change.numerical_rank}, "
            f"effective {change.effective_rank:.1f})",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("number i of the singular value")
    axes.set_ylabel("singular value σᵢ of ΔW")
    axes.set_title(f"in how many directions (the {min(len(matrices), MOST_SPECTRA)} largest)", fontsize=11)
    axes.grid(color="0.9")
    if matrices:
        axes.legend(fontsize=7.5, loc="lower left")


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
    axes.set_title("which share of the entries", fontsize=11)
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize=9)


def _roles(changes: Sequence[TensorChange]) -> list[str]:
    return [role for role in ROLES if any(change.role == role for change in changes)]


def _place(change: TensorChange, depth: int) -> int:
    """Where a tensor stands from left to right: embeddings before the first layer, the rest after the last."""
    if change.layer is not None:
        return change.layer
    return -1 if change.role == "embedding" else depth
