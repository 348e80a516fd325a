"""`audit selfcheck`: before its verdicts are believed, the audit shows on controls that it works."""

import sys
from typing import Annotated

import typer

from audit.commands.typed import as_typed, known_abilities, settings_of


def selfcheck(
    abilities: Annotated[
        list[str] | None, typer.Argument(help="the abilities to check; all eight when left out")
    ] = None,
    model: Annotated[str | None, as_typed("model")] = None,
    revision: Annotated[str | None, as_typed("revision")] = None,
    margin: Annotated[list[str] | None, as_typed("margin")] = None,
    data: Annotated[str | None, as_typed("data")] = None,
    protocol: Annotated[str | None, as_typed("protocol")] = None,
    shots: Annotated[str | None, as_typed("shots")] = None,
    chat_template: Annotated[bool, as_typed("chat_template")] = False,
    limit: Annotated[str | None, as_typed("limit")] = None,
    seed: Annotated[str | None, as_typed("seed")] = None,
    device: Annotated[str | None, as_typed("device")] = None,
    dtype: Annotated[str | None, as_typed("dtype")] = None,
    store: Annotated[str | None, as_typed("store")] = None,
    no_store: Annotated[bool, as_typed("no_store")] = False,
) -> None:
    """Audit your model untouched (every ability must PASS) and ruined by noise (every ability must FAIL).

    Exit code: 0 when each ability does both, 1 when one does not, 2 for a wrong option.
    """
    given = locals()
    settings = settings_of(given)
    asked = known_abilities(abilities or [])

    from audit.reports.progress import on_terminal
    from audit.session.selfcheck import run_controls  # brings torch

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
