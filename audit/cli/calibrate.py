"""`audit calibrate`: what the same weights lose against themselves, under which no margin may lie."""

import sys
from typing import Annotated

import typer

from audit.cli.edit_options import folder_of
from audit.cli.options import ASKING, known_abilities, takes
from audit.settings.options import AuditSettings

# Nothing is edited here; and what is found is for later runs, so that it is always kept.
TAKEN = (*ASKING, "reports")


@takes(TAKEN)
def calibrate(
    settings: AuditSettings,
    abilities: Annotated[
        list[str] | None, typer.Argument(help="the abilities to ask twice; all eight when left out")
    ] = None,
) -> None:
    """Ask the untouched model twice: in other batches, and computed in another dtype (A/A).

    Later audits of the same model and data refuse a margin under the noise floor that was found; calibrating again
    replaces it. Exit code: 0, or 2 for a wrong option.
    """
    asked = known_abilities(abilities or [])

    from rich.console import Console

    from audit.reports.progress import on_terminal
    from audit.reports.workflows.calibration import calibration_table, write_calibration
    from audit.workflows.calibrate import calibrate as calibrated_on  # brings torch

    found = calibrated_on(settings, asked, on_terminal(sys.stderr))
    for line in found.lines:
        typer.echo(f"calibrate: {line}")
    Console().print(calibration_table(found))
    for sentence in found.sentences():
        typer.echo(sentence)
    for file in write_calibration(found, folder_of(settings, "calibrate", settings.model)):
        typer.echo(f"wrote {file}")
