"""The folder of `audit diff`: `diff.json` and `diff.csv` with all numbers, table and page, and the figure."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from audit.measures.checkpoint_diff import CheckpointDiff, TensorChange
from audit.measures.integrity import THRESHOLDS
from audit.reports.folder import csv_text, write_texts, written_into
from audit.reports.html.findings_page import Findings, FindingsTable, findings_html
from audit.reports.json_report import as_json
from audit.reports.markdown import table_lines
from audit.settings.values import short_name

SCHEMA_VERSION = 1
SHOWN_THRESHOLDS = (0.1, 1.0)  # in tables; the files hold all
MOST_ROWS = 30  # of the terminal's table; the files hold all
MOST_ON_PAGE = 1000
_HEADINGS = (
    "tensor",
    "layer",
    "role",
    "shape",
    "relative norm",
    "spectral norm",
    "relative spectral norm",
    "effective rank",
    "rank",
    *(f"> {threshold:g} W" for threshold in SHOWN_THRESHOLDS),
    "largest entry",
)
# The same without the largest entry, for 80 columns.
_NARROW_HEADINGS = (
    "tensor",
    "layer",
    "role",
    "shape",
    "rel.\nnorm",
    "σ₁",
    "σ₁\nrel.",
    "eff.\nrank",
    "rank",
    *(f"%>{threshold:g}W" for threshold in SHOWN_THRESHOLDS),
)


def write_diff(diff: CheckpointDiff, folder: Path) -> tuple[Path, ...]:
    """Write all files into `folder`, replacing those of an earlier run, and return them.

    Raises:
        AuditError: the folder cannot be written.
    """
    texts = {"diff.json": diff_json(diff), "diff.csv": diff_csv(diff), "table.md": diff_markdown(diff)}
    with written_into(folder, "--out"):
        written = write_texts(folder, texts, "--out")
        svg = ""
        if diff.changes:
            from audit.reports.plots.weight_changes import draw_changes  # brings matplotlib

            written = (*written, *draw_changes(diff, folder))
            svg = (folder / "changes.svg").read_text(encoding="utf-8")
        return (*written, *write_texts(folder, {"diff.html": diff_html(diff, svg)}, "--out"))


def diff_json(diff: CheckpointDiff) -> str:
    """All numbers; those that are not finite are null."""
    content = {
        "schema_version": SCHEMA_VERSION,
        **{name: getattr(diff, name) for name in ("base", "edited", "kind", "stored_as", "quantized_as")},
        "base_quantized_as": diff.base_quantized_as,
        "attaches_modules": diff.attaches_modules,
        "identical": diff.identical,
        "tensors": diff.tensors,
        "changed": len(diff.changes),
        "entry_shares": _shares(diff.entry_shares),
        "changes": [as_json(change) | {"entry_shares": _shares(change.entry_shares)} for change in diff.changes],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def diff_csv(diff: CheckpointDiff) -> str:
    """One line per changed tensor; missing numbers are empty."""
    numbers = ("norm", "relative_norm", "spectral_norm", "relative_spectral_norm", "effective_rank", "numerical_rank")
    rows = []
    for change in diff.changes:
        values = {name: getattr(change, name) for name in (*numbers, "largest_entry")}
        values |= {f"entries_over_{threshold:g}": change.entry_shares[threshold] for threshold in THRESHOLDS}
        shown = {name: "" if value is None else f"{value:.6g}" for name, value in values.items()}
        rows.append(
            {"tensor": change.name, "layer": change.layer, "role": change.role, "shape": _shape(change), **shown}
        )
    shares = [f"entries_over_{threshold:g}" for threshold in THRESHOLDS]
    return csv_text(["tensor", "layer", "role", "shape", *numbers, "largest_entry", *shares], rows)


def diff_markdown(diff: CheckpointDiff) -> str:
    """The sentences, and a table of all changed tensors."""
    lines = [f"# What {short_name(diff.edited)} changed in {short_name(diff.base)}", "", *sentences(diff)]
    if diff.changes:
        lines += ["", *table_lines(_HEADINGS, map(_cells, diff.changes), texts=(0, 2))]
    return "\n".join(lines) + "\n"


def diff_html(diff: CheckpointDiff, svg: str) -> str:
    """The same as a page with the figure in it, and a table of at most `MOST_ON_PAGE` tensors."""
    left = len(diff.changes) - MOST_ON_PAGE
    name = "Changed tensors, the largest relative norm first"
    table = FindingsTable(name, _HEADINGS, list(map(_cells, diff.changes[:MOST_ON_PAGE])), (2,))
    return findings_html(
        Findings(
            f"What {short_name(diff.edited)} changed in {short_name(diff.base)}",
            sentences(diff),
            [f"base: {diff.base}", f"edited: {diff.edited} ({diff.kind})"],
            [table] if diff.changes else [],
            [f"and {left} more with smaller changes; diff.csv has all"] if left > 0 else [],
            svg,
            "Relative norms by layer, singular values of the largest changes, and shares of changed entries.",
        )
    )


def diff_table(diff: CheckpointDiff) -> Table:
    """The largest changes, for a terminal."""
    left = len(diff.changes) - MOST_ROWS
    caption = f"and {left} more with smaller changes; diff.csv has all" if left > 0 else None
    title = f"{short_name(diff.edited)} over {short_name(diff.base)}, the largest relative norm first"
    # The box puts a space between columns.
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.title_justify = table.caption_justify = "left"
    for heading in _NARROW_HEADINGS:
        words = heading in ("tensor", "role")
        table.add_column(heading, justify="left" if words else "right", no_wrap=heading != "tensor", overflow="fold")
    for change in diff.changes[:MOST_ROWS]:
        name, *cells = _cells(change)[:-1]
        inside = name if change.layer is None else name.partition(f".{change.layer}.")[2]
        table.add_row(inside.removesuffix(".weight"), *(cell.removesuffix(" %") for cell in cells))
    return table


def sentences(diff: CheckpointDiff) -> tuple[str, ...]:
    """The comparison in sentences."""
    if diff.identical:
        return (f"The weights of {diff.edited} equal those of {diff.base} bit for bit: no tensor differs.",)
    lines = []
    if diff.attaches_modules:
        lines.append(f"{diff.edited} attaches modules to {diff.base}; modules are not weights and are not compared.")
    if not diff.changes:
        return (*lines, "No tensor differs.")
    lines.append(f"{len(diff.changes)} of {diff.tensors} tensors differ; {_places(diff.changes)}.")
    shares = ", ".join(f"{100 * diff.entry_shares[t]:.3g} % by more than {t:g}" for t in SHOWN_THRESHOLDS)
    lines.append(f"Entries of these tensors that changed: {shares} times themselves.")
    if diff.quantized_as or diff.base_quantized_as:
        lines.append(_quantization(diff))
    rounded = sum(change.rounding_only for change in diff.changes)
    if rounded:
        stored = f" (the checkpoint is stored in {diff.stored_as})" if diff.stored_as else ""
        lines.append(f"{rounded} of the {len(diff.changes)} tensors differ by no more than rounding{stored}.")
    lines.append(
        "Effective rank is exp(H) of the singular values (Roy & Vetterli 2007); rank counts the singular values above "
        "the rounding error of the weights."
    )
    return tuple(lines)


def _quantization(diff: CheckpointDiff) -> str:
    """What the quantization of one or both models means for the differences."""
    if diff.quantized_as == diff.base_quantized_as:
        return (
            f"Both models are quantized ({diff.quantized_as}): the differences of an edited tensor include its "
            "quantization. If both were quantized in the same way, the tensors that were not edited are equal."
        )
    kinds = ((diff.edited, diff.quantized_as), (diff.base, diff.base_quantized_as))
    stored = " and ".join(f"{name} is {f'quantized ({kind})' if kind else 'not quantized'}" for name, kind in kinds)
    return (
        f"{stored}: the tensors that were not edited differ by the quantization too, and these numbers do not separate "
        "it from an edit."
    )


def _places(changes: Sequence[TensorChange]) -> str:
    """The layers and roles of the tensors that differ by more than rounding, or of all if there are none."""
    edited = [change for change in changes if not change.rounding_only] or list(changes)
    layers = sorted({change.layer for change in edited if change.layer is not None})
    roles = ", ".join(dict.fromkeys(change.role for change in edited))
    where = (
        "outside the layers" if not layers else f"in layers {_span(layers)}" if layers[1:] else f"in layer {layers[0]}"
    )
    return f"the change is {where} ({roles})"


def _span(layers: Sequence[int]) -> str:
    whole = list(layers) == list(range(layers[0], layers[-1] + 1))
    return f"{layers[0]}-{layers[-1]}" if whole and len(layers) > 2 else ", ".join(map(str, layers))


def _cells(change: TensorChange) -> list[str]:
    numbers = (change.relative_norm, change.spectral_norm, change.relative_spectral_norm)
    return [
        change.name,
        "–" if change.layer is None else str(change.layer),
        change.role,
        _shape(change),
        *("–" if value is None else f"{value:.3g}" for value in numbers),
        "–" if change.effective_rank is None else f"{change.effective_rank:.1f}",
        "–" if change.numerical_rank is None else str(change.numerical_rank),
        *(f"{100 * change.entry_shares[threshold]:.1f} %" for threshold in SHOWN_THRESHOLDS),
        f"{change.largest_entry:.3g}",
    ]


def _shape(change: TensorChange) -> str:
    return "×".join(map(str, change.shape))


def _shares(shares: Mapping[float, float]) -> dict[str, float]:
    return {f"{threshold:g}": share for threshold, share in shares.items()}
