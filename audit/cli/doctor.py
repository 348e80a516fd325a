"""`audit doctor`: whether audits can run here, and what is missing."""

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from audit.cli.command_line import FAIL_EXIT, takes
from audit.settings.options import AuditSettings


@takes(("store",), project=False)  # the checkup reads the project itself, and reports its mistakes
def doctor(
    settings: AuditSettings,
    as_json: Annotated[bool, typer.Option("--json", help="print data instead of text")] = False,
) -> None:
    """Show versions, devices, extras, the store, the hub and the project's settings, and what is wrong with them.

    Nothing is changed or downloaded. Exit code: 0 if audits can run, 1 if something is broken, 2 for a wrong option.
    """
    from audit.reports.workflows.doctor import checkup_document, checkup_lines
    from audit.workflows.doctor import checkup  # imports torch

    found = checkup(Path.cwd(), store=settings.store)
    if as_json:
        typer.echo(json.dumps(checkup_document(found), indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(checkup_lines(found, shutil.get_terminal_size().columns)))
    if not found.usable:
        raise typer.Exit(FAIL_EXIT)
