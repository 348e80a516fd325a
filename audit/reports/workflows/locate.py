"""The folder of `audit locate`: `locate.json` with all numbers, tables and page for reading, and the heat maps."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.table import Table

from audit.measures.causal_tracing import KINDS, TOKEN_ROLES, Kind
from audit.measures.layer_recommendation import TracingResult
from audit.reports.folder import write_texts, written_into
from audit.reports.html.findings_page import Findings, FindingsTable, findings_html
from audit.reports.markdown import table_lines
from audit.reports.verdict_sentences import points

SCHEMA_VERSION = 1
MOST_COLUMNS = 8  # of a table with a column for each layer; more do not fit a terminal of 80 characters


def write_located(result: TracingResult, folder: Path) -> tuple[Path, ...]:
    """Write all files into `folder`, replacing those of an earlier run, and return them.

    Raises:
        AuditError: the folder cannot be written.
    """
    from audit.reports.plots.heat_map import draw_heat_maps  # brings matplotlib

    texts = {"locate.json": located_json(result), "table.md": located_markdown(result)}
    with written_into(folder, "--out"):
        files = (*write_texts(folder, texts, "--out"), *draw_heat_maps(result, folder))
        svg = (folder / "causal-tracing.svg").read_text(encoding="utf-8")
        return (*files, *write_texts(folder, {"locate.html": located_html(result, svg)}, "--out"))


def located_json(result: TracingResult) -> str:
    """All numbers, with the names of roles and kinds."""
    effects = result.effects
    content = {
        "schema_version": SCHEMA_VERSION,
        **{name: getattr(result, name) for name in ("model", "source", "asked", "seed")},
        "recalled": effects.facts,
        "clean": effects.clean,
        "corrupted": effects.corrupted,
        "noise_samples": effects.samples,
        "window": effects.window,
        "facts_by_role": dict(zip(TOKEN_ROLES, effects.role_facts, strict=True)),
        "average_indirect_effect": {kind: dict(zip(TOKEN_ROLES, effects.by_kind[kind], strict=True)) for kind in KINDS},
        "recommendation": asdict(result.recommendation),
    }
    return json.dumps(content, indent=1) + "\n"


def located_markdown(result: TracingResult) -> str:
    """The sentences, and one table per kind of module."""
    lines = [f"# Where {result.model} recalls facts", "", *sentences(result)]
    for kind in KINDS:
        lines += ["", f"## {_heading(kind, result.effects.window)}", ""]
        lines += table_lines(_headings(result), _cells(result, kind))
    return "\n".join(lines) + "\n"


def located_html(result: TracingResult, svg: str) -> str:
    """The same as a page with the heat maps in it."""
    tables = [
        FindingsTable(_heading(kind, result.effects.window), _headings(result), list(_cells(result, kind)))
        for kind in KINDS
    ]
    title, shows = f"Where {result.model} recalls facts", "Heat maps of the tables, one for each kind of module."
    return findings_html(Findings(title, sentences(result), (), tables, (), svg, shows))


def located_table(result: TracingResult) -> Table:
    """The effects of MLPs, which determine the recommendation, for a terminal; a deep model has a line a layer."""
    table = Table(title=_heading("mlp", result.effects.window), box=box.SIMPLE_HEAD, title_justify="left")
    headings, rows = _headings(result), list(_cells(result, "mlp"))
    bold = "last subject token"
    if len(headings) <= MOST_COLUMNS:
        for number, heading in enumerate(headings):
            table.add_column(heading, justify="right" if number else "left", no_wrap=not number)
        for cells in rows:
            table.add_row(*cells, style="bold" if cells[0] == bold else None)
        return table
    table.add_column("layer", justify="right")
    for role, *_ in rows:
        table.add_column(role, justify="right", style="bold" if role == bold else None)
    for heading, *cells in zip(headings[1:], *(row[1:] for row in rows), strict=True):
        table.add_row(heading, *cells)
    return table


def sentences(result: TracingResult) -> tuple[str, ...]:
    """The traced facts and the recommendation in sentences."""
    effects, advice = result.effects, result.recommendation
    peak = advice.effects[advice.rome]
    return (
        f"{result.model} recalls {effects.facts} of {result.asked} facts ({result.source}); these were traced.",
        f"The mean probability of the answer is {effects.clean:.3f}, and {effects.corrupted:.3f} with noise on the "
        "subject.",
        f"Restored MLP outputs at the last subject token have the largest effect at layer {advice.rome} ({peak:.3f}), "
        f"and at least half of it in {_named(advice.range)}.",
        f"Recommended: layer={advice.rome} for rome and variants, layers={_span(advice.memit)} for memit and variants.",
    )


def _cells(result: TracingResult, kind: Kind) -> Iterator[list[str]]:
    for role, n, row in zip(TOKEN_ROLES, result.effects.role_facts, result.effects.by_kind[kind], strict=True):
        values = ["–"] * len(result.recommendation.effects) if row is None else [points(value) for value in row]
        yield [role, str(n), *values]


def _headings(result: TracingResult) -> list[str]:
    return ["token", "facts", *map(str, range(len(result.recommendation.effects)))]


def _heading(kind: str, window: int) -> str:
    name = {"block": "Block output", "mlp": "MLP output", "attention": "Attention output"}[kind]
    several = f" in {window} layers around" if kind != "block" and window > 1 else ""
    return f"{name} restored{several}: average indirect effect (probability), by layer"


def _span(layers: Sequence[int]) -> str:
    return str(layers[0]) if len(layers) == 1 else f"{layers[0]}-{layers[-1]}"


def _named(layers: Sequence[int]) -> str:
    return f"layer {layers[0]} alone" if len(layers) == 1 else f"layers {_span(layers)}"
