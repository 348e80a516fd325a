"""`audit calibrate`: the noise floor of a model's scores, below which no margin is accepted."""

import sys
from typing import Annotated

import typer

from audit.cli.command_line import ASKING, known_abilities, results_folder, takes
from audit.settings.options import AuditSettings


@takes((*ASKING, "reports"))  # without --no-store, since later runs look the result up in the store
def calibrate(
    settings: AuditSettings,
    abilities: Annotated[list[str] | None, typer.Argument(help="abilities to ask (default: all eight)")] = None,
) -> None:
    """Measure the noise of the unedited model's scores: ask it in other batches, and in another dtype (A/A).

    Later audits of the same model and data refuse margins below the noise floor that was measured; a new calibration
    replaces it. Exit code: 0, or 2 for a wrong option.
    """
    names = known_abilities(settings, abilities)

    from rich.console import Console

    from audit.reports.progress import on_terminal
    from audit.reports.workflows.calibration import calibration_table, write_calibration
    from audit.workflows.calibrate import calibrate as measured  # imports torch

    found = measured(settings, names, on_terminal(sys.stderr))
    for line in found.lines:
        typer.echo(f"calibrate: {line}")
    Console().print(calibration_table(found))
    typer.echo("\n".join(found.sentences()))
    folder = results_folder(settings, "calibrate", settings.model)
    typer.echo("\n".join(f"wrote {file}" for file in write_calibration(found, folder)))
