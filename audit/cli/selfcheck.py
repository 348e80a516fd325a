"""`audit selfcheck`: shows on two controls that the audit works for a model and its data."""

import sys
from typing import Annotated

import typer

from audit.cli.command_line import ASKING, FAIL_EXIT, known_abilities, takes
from audit.settings.options import AuditSettings


@takes((*ASKING, "margin", "no_store"))
def selfcheck(
    settings: AuditSettings,
    abilities: Annotated[list[str] | None, typer.Argument(help="abilities to check (default: all eight)")] = None,
) -> None:
    """Audit the model unchanged (every ability must PASS) and damaged by noise (every ability must FAIL).

    Exit code: 0 if every ability does both, 1 if one does not, 2 for a wrong option.
    """
    names = known_abilities(settings, abilities)

    from audit.reports.progress import on_terminal
    from audit.workflows.selfcheck import run_controls  # imports torch

    controls = run_controls(settings, names, on_terminal(sys.stderr))
    works = [control for control in controls if control.works]
    for control in controls:
        mark = "works" if control.works else "FAILS"
        typer.echo(f"{mark}  {control.ability:<{max(map(len, names))}}  {control.sentence}")
    typer.echo(
        f"selfcheck: {len(works)} of {len(controls)} abilities can be judged on {settings.model}"
        + ("" if len(works) == len(controls) else "; do not rely on verdicts about the others")
    )
    if len(works) < len(controls):
        raise typer.Exit(FAIL_EXIT)
