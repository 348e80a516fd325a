"""`audit curve`: abilities and edit scores against the number of edits."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli.edit_options import folder_for, judges_a_plan
from audit.cli.options import known_abilities
from audit.settings.options import AuditSettings

if TYPE_CHECKING:
    from audit.reports.rows import RunReport


@judges_a_plan
def curve(
    settings: AuditSettings,
    abilities: Annotated[list[str] | None, typer.Argument(help="the abilities to ask; all eight when left out")] = None,
    refine: Annotated[int, typer.Option(min=0, help="further points where a verdict changes")] = 4,
) -> None:
    """Ask after 1, 2, 4, ... edits up to --edit-count, and where a verdict changes; write tables and curves.

    A sequential plan is carried out once and asked after its first edits; a batch is edited anew for each point. A
    second run goes on where the first ended. Exit code: 0, or 2 for a wrong option.
    """
    names = known_abilities(abilities or [])

    from rich.console import Console

    from audit.reports.progress import on_terminal
    from audit.reports.workflows.curve import curve_tables, write_curve
    from audit.workflows.curve import measure_curve  # brings torch
    from audit.workflows.edit_subsets import opened

    with opened(settings, on_terminal(sys.stderr)) as run:
        points = measure_curve(run, names, refine=refine, told=_told)
    console = Console()
    for table in curve_tables(points, console.width):
        console.print(table, "")
    typer.echo("✗ FAIL, ? INCONCLUSIVE; retained efficacy is that of all edits so far, asked at the end")
    for file in write_curve(points, folder_for("curve", settings)):
        typer.echo(f"wrote {file}")


def _told(point: "RunReport") -> None:
    lost = [f"{row.named} {row.outcome}" for row in point.abilities if row.outcome != "PASS"]
    edits = "1 edit" if point.header.edit_count == 1 else f"{point.header.edit_count} edits"
    typer.echo(f"{edits}: {', '.join(lost) or 'all PASS'}")
