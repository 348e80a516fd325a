"""`audit grid`: many audits, resumable cell by cell, with a table, plots and the paper's findings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli.command_line import takes
from audit.errors import AuditError
from audit.settings.options import AuditSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from audit.reports.workflows.grid_cells import Cell, CellResult
    from audit.workflows.grid.cells import FailedCell, GridSettings
    from audit.workflows.grid.costs import Cost, Costs

PAPER_MODELS = ("pocket-gpt2", "pocket-llama")
SHARED = ("limit", "seed", "edits", "device", "dtype", "data", "reading", "prompting", "store")
INTERRUPTED = 130  # exit code of a program that Ctrl-C ended


@takes((*SHARED, "ability"), project=False)
def grid(
    settings: AuditSettings,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file with the cells and their shared settings")
    ] = None,
    tags: Annotated[str | None, typer.Option(help="with --plan: only cells with these tags")] = None,
    models: Annotated[
        str | None, typer.Option(help=f"models, separated by commas (default: {','.join(PAPER_MODELS)})")
    ] = None,
    editors: Annotated[
        str | None, typer.Option(help="editors, separated by commas (default: the grid of Gu et al.)")
    ] = None,
    restraints: Annotated[
        str | None, typer.Option(help="restraints, separated by commas; 'none' is one of them (default: none)")
    ] = None,
    modes: Annotated[
        str | None, typer.Option(help="edit modes, separated by commas (default: those that suit the editor)")
    ] = None,
    counts: Annotated[
        str | None, typer.Option(help="numbers of edits, separated by commas (default: 1,10,100)")
    ] = None,
    batch_sizes: Annotated[
        str | None, typer.Option(help="batch sizes of batch-sequential mode, separated by commas (default: 10)")
    ] = None,
    editor_config: Annotated[
        list[str] | None,
        typer.Option(metavar="EDITOR.KEY=VALUE", help="set one hyperparameter of an editor; repeatable"),
    ] = None,
    abilities: Annotated[str | None, typer.Option(help="abilities, separated by commas (default: all eight)")] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes that run cells at once, each with one thread")] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="run the cells on a Ray cluster: auto, local or HOST:PORT")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the grid; finished cells in it are not run again")] = Path(
        "reports/grid"
    ),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="run nothing, and list the cells with what they will cost")
    ] = False,
    render_only: Annotated[
        bool, typer.Option("--render-only", help="run nothing, and write tables, plots and page of the finished cells")
    ] = False,
) -> None:
    """Audit every combination of editors, models, modes and numbers of edits; write tables, plots and findings.

    Without --editors and --plan, the grid is a small version of that of Gu et al. (2024): KN, MEND, ROME and MEMIT in
    their modes, and RECT. Options that are typed replace those of the --plan file. An interrupted grid continues with
    the same command. Exit code: 0, 1 if a cell could not be run, or 2 for a wrong option.
    """
    from audit.settings.values import EditorConfig

    cells: Sequence[Cell] = ()
    failed: Sequence[FailedCell] = ()
    if render_only and plan is not None:
        from audit.workflows.grid.grid_file import read_grid_file

        cells = read_grid_file(plan).cells
    if not render_only:
        products = {
            "--models": models,
            "--editors": editors,
            "--restraints": restraints,
            "--modes": modes,
            "--counts": counts,
            "--batch-sizes": batch_sizes,
        }
        given = [flag for flag, text in products.items() if text is not None]
        if plan is not None and given:
            raise AuditError(f"--plan {plan} has cells, and {given[0]} asks for others; leave one of the two out.")
        if plan is None and tags is not None:
            raise AuditError(f"--tags {tags!r}: only the cells of a --plan file have tags; leave it out.")
        shared: dict[str, object] = {"workers": workers, "ray": ray}
        if abilities is not None or settings.ability:
            shared["abilities"] = (*_words(abilities), *map(str, settings.ability))
        if editor_config:
            typed = EditorConfig().parse("--editor-config", editor_config)
            shared["editor_config"] = _by_editor(typed)
        cells, grid_settings = _grid(settings, out, plan, _words(tags), products, shared)
        if dry_run:
            _list_cells(cells, grid_settings)
            return
        failed = _run(cells, grid_settings)
    reasons = {one.cell: f"failed: {one.reason}" for one in failed}
    typer.echo("\n".join(f"wrote {file}" for file in render(out, {cell: reasons.get(cell, "") for cell in cells})))
    if failed:
        raise typer.Exit(1)


def render(out: Path, asked: "Mapping[Cell, str] | None" = None) -> tuple[Path, ...]:
    """Write the tables, plots, findings and page of the cells in the folder of a grid; returns the files.

    `asked` are the cells that the grid was asked for, with why they have no result if that is known.
    """
    from audit.reports.folder import write_texts
    from audit.reports.html.grid_page import NOT_RUN, grid_html
    from audit.reports.plots.grid import draw_grid
    from audit.reports.workflows.grid import grid_csv, grid_markdown
    from audit.reports.workflows.grid_cells import read_grid
    from audit.reports.workflows.grid_findings import findings_markdown
    from audit.reports.workflows.grid_shares import GridShares
    from audit.workflows.grid.findings import findings_by_model

    results, shares = read_grid(out), GridShares()
    finished = {result.cell for result in results}
    absent = {cell: reason or NOT_RUN for cell, reason in (asked or {}).items() if cell not in finished}
    found = findings_by_model(results, shares)
    texts = {
        "grid.csv": grid_csv(results, shares),
        "grid.md": f"# The grid\n\n{grid_markdown(results, shares)}",
        "findings.md": f"# Finding by finding\n\n{findings_markdown(found)}",
        "grid.html": grid_html(results, found, shares, absent),
    }
    return (*write_texts(out, texts, "--out"), *draw_grid(results, out, shares))


def _grid(
    settings: AuditSettings,
    out: Path,
    plan: Path | None,
    tags: tuple[str, ...],
    products: "Mapping[str, str | None]",
    shared: "dict[str, object]",
) -> "tuple[tuple[Cell, ...], GridSettings]":
    """The cells and their settings, from a file or from what was typed."""
    from audit.workflows.grid.cells import GridSettings
    from audit.workflows.grid.grid_file import read_grid_file

    typed = {name: getattr(settings, name) for name in SHARED if name != "edits"}
    if plan is None:
        cells = _cells(products, settings.seed, settings.edits or "pocket")
        return cells, GridSettings(out, **{**typed, **shared})
    if settings.edits is not None:
        raise AuditError(f"--edits {settings.edits}: the cells of --plan {plan} name their edits; leave it out.")
    found = read_grid_file(plan)
    changed = {name: value for name, value in typed.items() if value != getattr(AuditSettings(), name)}
    return found.tagged(tags), found.settings(out, **{**changed, **shared})


def _run(cells: "Sequence[Cell]", settings: "GridSettings") -> "tuple[FailedCell, ...]":
    from audit.workflows.grid.costs import Costs
    from audit.workflows.grid.run import finished_cells, run_grid  # imports torch

    finished = finished_cells(cells, settings)
    shown = _Lines(cells, Costs(settings, finished.values()), settings.workers, set(finished))
    typer.echo(shown.start())
    try:
        return run_grid(cells, settings, shown)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; finished cells are kept in {settings.root}, and the same command goes on from there")
        raise typer.Exit(INTERRUPTED) from None


def _list_cells(cells: "Sequence[Cell]", settings: "GridSettings") -> None:
    from audit.workflows.grid.costs import Costs
    from audit.workflows.grid.run import finished_cells

    finished = finished_cells(cells, settings)
    shown = _Lines(cells, Costs(settings, finished.values()), settings.workers, set(finished))
    for cell, cost in shown.costs().items():
        typer.echo(f"{cell.model}: {cell.title}: about {_minutes(cost.seconds)} ({cost.source})")
    typer.echo(shown.start())


class _Lines:
    """The watcher of a grid: a line when a cell begins, and one when it is done."""

    def __init__(self, cells: "Sequence[Cell]", costs: "Costs", workers: int, finished: "set[Cell]") -> None:
        from audit.reports.verdict_sentences import share_kept
        from audit.reports.workflows.grid_shares import CellShares
        from audit.workflows.grid.plan_cells import plan_cells

        self._plans, self._costs, self._workers = plan_cells(cells), costs, workers
        self._cells, self._left = tuple(dict.fromkeys(cells)), [cell for cell in cells if cell not in finished]
        self._shares, self._shown = CellShares, share_kept

    def costs(self) -> "dict[Cell, Cost]":
        """What the cells that are left will cost."""
        return self._costs.estimate(self._plans, set(self._left))

    def start(self) -> str:
        """The line before the first cell."""
        hours = sum(cost.seconds for cost in self.costs().values()) / 3600 / self._workers
        done = len(self._cells) - len(set(self._left))
        return f"{len(self._cells)} cells: {done} finished, {len(set(self._left))} left, about {hours:.1f} hours"

    def begins(self, cell: "Cell") -> None:
        cost = self.costs().get(cell)
        expected = "" if cost is None else f", about {_minutes(cost.seconds)} ({cost.source})"
        typer.echo(f"begins: {cell.model}: {cell.title}{expected}")

    def finished(self, result: "CellResult", kept: bool, done: int, total: int) -> None:
        cell, report = result.cell, result.report
        if not kept:
            self._costs.add(result)
        self._left = [one for one in self._left if one != cell]
        parts = [f"mean drop {result.mean_drop:.3f}"]
        if share := self._shown(self._shares(result).mean):
            parts.append(f"mean kept {share}")
        parts.append(f"harmed {sum(alarm.harmed for alarm in report.alarms)} of {len(report.abilities)}")
        if result.immediate_efficacy is not None:
            end = result.edit_score("efficacy")
            parts.append(
                f"efficacy {result.immediate_efficacy:.2f}" + ("" if end is None else f", {end:.2f} at the end")
            )
        if report.unasked:
            parts.append(f"not asked {', '.join(report.unasked)}")
        took = "from an earlier run" if kept else f"{result.seconds:.0f} s"
        typer.echo(f"{done}/{total} {cell.model}: {cell.title}: {', '.join(parts)} ({took})")

    def failed(self, failed: "FailedCell", done: int, total: int) -> None:
        self._left = [one for one in self._left if one != failed.cell]
        typer.echo(f"{done}/{total} not run: {failed.cell.title} on {failed.cell.model}: {failed.reason}")


def _cells(products: "Mapping[str, str | None]", seed: int, edits: str) -> "tuple[Cell, ...]":
    from audit.editors import load_editor
    from audit.workflows.grid.cells import paper_cells, product_cells

    models = _words(products["--models"]) or PAPER_MODELS
    if products["--editors"] is None:
        return paper_cells(models, seed=seed, edits=edits)
    return product_cells(
        models=models,
        editors={name: load_editor(name).batches for name in _words(products["--editors"])},
        restraints=["" if word == "none" else word for word in _words(products["--restraints"] or "none")],
        modes=_words(products["--modes"]),
        counts=_numbers("--counts", products["--counts"] or "1,10,100"),
        batch_sizes=_numbers("--batch-sizes", products["--batch-sizes"] or "10"),
        seeds=[seed],
        edits=[edits],
    )


def _by_editor(typed: "Mapping[str, str]") -> dict[str, dict[str, str]]:
    """Settings by editor from EDITOR.KEY=VALUE."""
    found: dict[str, dict[str, str]] = {}
    for name, value in typed.items():
        editor, dot, key = name.rpartition(".")
        if not dot or not editor or not key:
            raise AuditError(f"--editor-config {name}={value}: write EDITOR.KEY=VALUE, such as memit.layers=3,4.")
        found.setdefault(editor, {})[key] = value
    return found


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip()) if text else ()


def _numbers(flag: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise AuditError(f"{flag} {text!r}: give whole numbers separated by commas, such as 1,10,100.") from None
