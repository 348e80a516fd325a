"""`audit curve`: abilities and edit scores against the number of edits."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli.command_line import EDIT_PLAN, echo_files, known_abilities, results_folder, takes
from audit.settings.options import AuditSettings

if TYPE_CHECKING:
    from audit.reports.rows import RunReport


@takes((*EDIT_PLAN, "early_stop"))
def curve(
    settings: AuditSettings,
    abilities: Annotated[list[str] | None, typer.Argument(help="abilities to ask (default: all eight)")] = None,
    refine: Annotated[int, typer.Option(min=0, help="maximum number of extra points where a verdict changes")] = 4,
) -> None:
    """Audit after 1, 2, 4, ... edits up to --edit-count, and where a verdict changes; write tables and plots.

    A sequential edit plan runs once and is audited after its first edits; a batch is edited again for each point. An
    interrupted curve continues where it stopped. Exit code: 0, or 2 for a wrong option.
    """
    names = known_abilities(settings, abilities)

    from rich.console import Console

    from audit.reports.progress import on_terminal
    from audit.reports.workflows.curve import curve_tables, write_curve
    from audit.workflows.curve import measure_curve  # imports torch
    from audit.workflows.edit_subsets import plan_run

    with plan_run(settings, on_terminal(sys.stderr)) as run:
        points = measure_curve(run, names, refine=refine, show=_show)
    console = Console()
    for table in curve_tables(points, console.width):
        console.print(table, "")
    typer.echo("✗ FAIL, ? INCONCLUSIVE; retained efficacy is the efficacy of all edits so far, measured at the end")
    echo_files(write_curve(points, results_folder(settings, "curve")), points[-1].header)


def _show(point: "RunReport") -> None:
    from audit.reports.run_sentences import edits_phrase

    lost = [f"{row.label} {row.outcome}" for row in point.abilities if row.outcome != "PASS"]
    typer.echo(f"{edits_phrase(point.header.edit_count)}: {', '.join(lost) or 'all PASS'}")
