"""`audit run --plan-only`: what a run could tell and how long it would take, without loading the model."""

import sys
from collections.abc import Sequence
from contextlib import suppress

import typer

from audit.errors import UnaskedError
from audit.options import AuditSettings


def show_plan(settings: AuditSettings, abilities: Sequence[str]) -> None:
    """Plan these abilities, with default margins unless the settings have others, and print the plan.

    Raises:
        AuditError: no ability at all could be asked.
    """
    from rich.console import Console

    from audit.reports.plan import plan_summary
    from audit.session.planning import Preflight

    preflight = Preflight(settings)
    preflight.check()
    for name in abilities:
        with suppress(UnaskedError):  # the plan tells of it
            preflight.plan(name)
    report = preflight.report()
    for line in report.header.lines():
        typer.echo(line, err=True)
    console = Console()  # knows the width, NO_COLOR and whether this is a terminal
    color = console.is_terminal and not console.no_color
    plain = not (sys.stdout.encoding or "ascii").lower().startswith("utf")
    typer.echo(plan_summary(report, width=console.width, color=color, ascii_only=plain), color=color)
