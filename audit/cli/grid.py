"""`audit grid`: many audits, resumable cell by cell, with a table, plots and the paper's findings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli.command_line import takes
from audit.errors import AuditError
from audit.settings.options import AuditSettings

if TYPE_CHECKING:
    from audit.reports.workflows.grid import Cell, CellResult

PAPER_MODELS = ("pocket-gpt2", "pocket-llama")


@takes(("limit", "seed", "edits", "ability", "device", "dtype"), project=False)
def grid(
    settings: AuditSettings,
    models: Annotated[str, typer.Option(help="models, separated by commas")] = ",".join(PAPER_MODELS),
    editors: Annotated[
        str | None, typer.Option(help="editors, separated by commas (default: the grid of Gu et al.)")
    ] = None,
    restraints: Annotated[str, typer.Option(help="restraints, separated by commas; 'none' is one of them")] = "none",
    modes: Annotated[
        str | None, typer.Option(help="edit modes, separated by commas (default: those that suit the editor)")
    ] = None,
    counts: Annotated[str, typer.Option(help="numbers of edits, separated by commas")] = "1,10,100",
    batch_sizes: Annotated[str, typer.Option(help="batch sizes of batch-sequential mode, separated by commas")] = "10",
    abilities: Annotated[str | None, typer.Option(help="abilities, separated by commas (default: all eight)")] = None,
    workers: Annotated[int, typer.Option(min=1, help="cells that run at once, each in a process with one thread")] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="run the cells on a Ray cluster: auto, local or HOST:PORT")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the grid; finished cells in it are not run again")] = Path(
        "reports/grid"
    ),
    render_only: Annotated[
        bool, typer.Option("--render-only", help="run nothing, and write tables and plots of the finished cells")
    ] = False,
) -> None:
    """Audit every combination of editors, models, modes and numbers of edits; write tables, plots and findings.

    Without --editors, the grid is a small version of that of Gu et al. (2024): KN, MEND, ROME and MEMIT in their modes,
    and RECT. Exit code: 0, 1 if a cell could not be run, or 2 for a wrong option.
    """
    from audit.workflows.grid.cells import GridSettings
    from audit.workflows.grid.run import run_grid  # imports torch

    if not render_only:
        shared = GridSettings(
            out,
            limit=settings.limit,
            seed=settings.seed,
            edits=settings.edits or "pocket",
            device=settings.device,
            dtype=settings.dtype,
            abilities=(*_words(abilities), *map(str, settings.ability)),
            workers=workers,
            ray=ray,
        )
        cells = _cells(_words(models), editors, restraints, modes, counts, batch_sizes)
        failed = run_grid(cells, shared, _show)
        for one in failed:
            typer.echo(f"not run: {one.cell.series.title}, {one.cell.count} edits on {one.cell.model}: {one.reason}")
    typer.echo("\n".join(f"wrote {file}" for file in render(out)))
    if not render_only and failed:
        raise typer.Exit(1)


def render(out: Path) -> tuple[Path, ...]:
    """Write the tables, plots and findings of the cells in the folder of a grid; returns the files."""
    from audit.reports.folder import write_texts
    from audit.reports.plots.grid import draw_grid
    from audit.reports.workflows.grid import grid_csv, grid_markdown, read_grid
    from audit.workflows.grid.findings import findings_markdown

    results = read_grid(out)
    texts = {
        "grid.csv": grid_csv(results),
        "grid.md": f"# The grid\n\n{grid_markdown(results)}",
        "findings.md": f"# Finding by finding\n\n{findings_markdown(results)}",
    }
    return (*write_texts(out, texts, "--out"), *draw_grid(results, out))


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


def _show(result: "CellResult", kept: bool, done: int, total: int) -> None:
    cell = result.cell
    efficacy = result.immediate_efficacy
    took = "from an earlier run" if kept else f"{sum(result.report.seconds.values()):.0f} s"
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
