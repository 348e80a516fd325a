"""`audit grid`: many audits, resumable cell by cell, and the table, the curves and the findings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.errors import AuditError

if TYPE_CHECKING:
    from audit.workflows.grid.cells import Cell
    from audit.workflows.grid.results import CellResult

PAPER_MODELS = ("pocket-gpt2", "pocket-llama")


def grid(
    models: Annotated[str, typer.Option(help="models, separated by commas")] = ",".join(PAPER_MODELS),
    editors: Annotated[str | None, typer.Option(help="editors, by commas; left out: the paper's grid")] = None,
    restraints: Annotated[str, typer.Option(help="restraints, by commas; 'none' is one")] = "none",
    modes: Annotated[str | None, typer.Option(help="edit modes, by commas (default: what suits the editor)")] = None,
    counts: Annotated[str, typer.Option(help="numbers of edits, by commas")] = "1,10,100",
    batch_sizes: Annotated[str, typer.Option(help="edits in a batch of batch-sequential, by commas")] = "10",
    abilities: Annotated[str | None, typer.Option(help="abilities, by commas (default: all eight)")] = None,
    limit: Annotated[int, typer.Option(min=1, help="items asked per ability")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="seed of the edits, the items and the editors")] = 0,
    edits: Annotated[str, typer.Option(help="what to edit: 'pocket' or a file of edit requests")] = "pocket",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="cells side by side, one process and thread each")] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="run the cells on a Ray cluster: auto, local or HOST:PORT")
    ] = None,
    out: Annotated[Path, typer.Option(help="the grid's folder; a second run there goes on where the first ended")] = (
        Path("reports/grid")
    ),
    render_only: Annotated[bool, typer.Option("--render-only", help="draw what is there and run nothing")] = False,
) -> None:
    """Run editors x models x modes x numbers of edits; write a table, curves and the paper's findings.

    Without --editors it is the grid of Gu et al. (2024) in miniature: KN, MEND, ROME, MEMIT, their modes, and RECT.
    """
    from audit.workflows.grid.run import GridSettings, run_grid  # brings torch

    if not render_only:
        settings = GridSettings(out, limit, seed, edits, device, dtype, _words(abilities), workers, ray)
        cells = _cells(_words(models), editors, restraints, modes, counts, batch_sizes)
        failed = run_grid(cells, settings, _told)
        for one in failed:
            typer.echo(f"not run: {one.cell.series.title}, {one.cell.count} edits on {one.cell.model}: {one.reason}")
    for file in render(out):
        typer.echo(f"wrote {file}")
    if not render_only and failed:
        raise typer.Exit(1)


def render(out: Path) -> tuple[Path, ...]:
    """Write the table, the curves and the findings of the cells in a grid's folder; the files written."""
    from audit.reports.plots.grid import draw_grid
    from audit.reports.workflows.grid import grid_csv, grid_markdown
    from audit.workflows.grid.findings import findings_markdown
    from audit.workflows.grid.results import read_grid

    results = read_grid(out)
    texts = {
        "grid.csv": grid_csv(results),
        "grid.md": f"# The grid\n\n{grid_markdown(results)}",
        "findings.md": f"# Finding by finding\n\n{findings_markdown(results)}",
    }
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8")
    return (*(out / name for name in texts), *draw_grid(results, out))


def _cells(
    models: tuple[str, ...], editors: str | None, restraints: str, modes: str | None, counts: str, batch_sizes: str
) -> "tuple[Cell, ...]":
    from audit.editors import load_editor
    from audit.workflows.grid.cells import paper_cells, product_cells

    if editors is None:
        return paper_cells(models)
    return product_cells(
        models=models,
        editors={name: load_editor(name).batches for name in _words(editors)},
        restraints=["" if word == "none" else word for word in _words(restraints)],
        modes=_words(modes),
        counts=_numbers("--counts", counts),
        batch_sizes=_numbers("--batch-sizes", batch_sizes),
    )


def _told(result: "CellResult", kept: bool, done: int, total: int) -> None:
    cell = result.cell
    efficacy = result.immediate_efficacy
    took = "kept from an earlier run" if kept else f"{sum(result.report.seconds.values()):.0f} s"
    shown = "" if efficacy is None else f", efficacy {efficacy:.2f}"
    typer.echo(
        f"{done}/{total} {cell.model}: {cell.series.title}, {cell.count} edits: "
        f"mean drop {result.mean_drop:.3f}{shown} ({took})"
    )


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip()) if text else ()


def _numbers(flag: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise AuditError(f"{flag} {text!r}: give whole numbers separated by commas, such as 1,10,100.") from None
