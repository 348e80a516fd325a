"""`audit selfcheck`: before its verdicts are believed, the audit shows on controls that it works."""

import sys
from typing import Annotated

import typer

from audit.cli.options import ASKING, known_abilities, takes
from audit.settings.options import AuditSettings

TAKEN = (*ASKING, "margin", "no_store")


@takes(TAKEN)
def selfcheck(
    settings: AuditSettings,
    abilities: Annotated[
        list[str] | None, typer.Argument(help="the abilities to check; all eight when left out")
    ] = None,
) -> None:
    """Audit your model untouched (every ability must PASS) and ruined by noise (every ability must FAIL).

    Exit code: 0 when each ability does both, 1 when one does not, 2 for a wrong option.
    """
    asked = known_abilities(abilities or [])

    from audit.reports.progress import on_terminal
    from audit.workflows.selfcheck import run_controls  # brings torch

    controls = run_controls(settings, asked, on_terminal(sys.stderr))
    works = [control for control in controls if control.works]
    for control in controls:
        mark = "works" if control.works else "FAILS"
        typer.echo(f"{mark}  {control.ability:<{max(map(len, asked))}}  {control.sentence}")
    typer.echo(
        f"selfcheck: {len(works)} of {len(controls)} abilities can be judged on {settings.model}"
        + ("" if len(works) == len(controls) else "; do not believe verdicts about the others")
    )
    if len(works) < len(controls):
        raise typer.Exit(1)
