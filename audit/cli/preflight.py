"""`audit run --plan-only`: what a run could tell and how long it would take, without loading the model."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import typer

from audit.cli.exit_code import print_summary
from audit.errors import UnaskedError
from audit.settings.options import AuditSettings


def show_preflight(settings: AuditSettings, abilities: Sequence[str]) -> None:
    """Plan these abilities, with default margins unless the settings have others, and print the plan.

    Raises:
        AuditError: no ability at all could be asked.
    """
    from audit.reports.workflows.preflight import preflight_summary
    from audit.workflows.preflight import Preflight

    preflight = Preflight(settings)
    preflight.check()
    for name in abilities:
        with suppress(UnaskedError):  # the report lists it
            preflight.assess(name)
    report = preflight.report()
    for line in report.header.lines():
        typer.echo(line, err=True)
    print_summary(partial(preflight_summary, report))
