"""The `audit` command, one module for each longer subcommand. Torch is imported by subcommands that load a model."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.cli.bisect import bisect
from audit.cli.budget import budget
from audit.cli.calibrate import calibrate
from audit.cli.card import card
from audit.cli.command_line import USAGE_EXIT, show, takes
from audit.cli.compare import compare
from audit.cli.completion import ability_names, completion, prepare_completion, run_folders
from audit.cli.curve import curve
from audit.cli.diff import diff
from audit.cli.doctor import doctor
from audit.cli.grid import grid
from audit.cli.locate import locate
from audit.cli.new import new
from audit.cli.rescore import rescore
from audit.cli.run import run
from audit.cli.selfcheck import selfcheck
from audit.cli.store import STORE_COMMANDS
from audit.cli.train_mend import train_mend
from audit.errors import AuditError, CrewError
from audit.pocket import pocket_names
from audit.settings.options import AuditSettings

app = typer.Typer(
    help="Test whether editing a language model hurt what it could already do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def report(
    folder: Annotated[Path, typer.Argument(help="folder of a run, such as reports/<run>", autocompletion=run_folders)],
) -> None:
    """Show the summary of a past run again, from its verdict.json."""
    from audit.reports.folder import read_report
    from audit.reports.run_sentences import header_lines

    found = read_report(folder)
    typer.echo("\n".join(header_lines(found.header)))
    show(found)


@takes(("ability",))
def list_names(settings: AuditSettings) -> None:
    """List the abilities, protocols, editors, restraints and pocket models."""
    from audit.abilities import PROTOCOLS
    from audit.editors import EDITORS
    from audit.editors.restraints.choice import RESTRAINTS

    listed = (
        ("abilities", dict.fromkeys((*settings.abilities.names, *ability_names()))),
        ("protocols", PROTOCOLS),
        ("editors", EDITORS),
        ("restraints", RESTRAINTS.values()),
        ("pocket models", pocket_names()),
    )
    for title, names in listed:
        typer.echo(f"{title}: {', '.join(names) or 'none'}")


def _with_error_line(command: Callable[..., None]) -> Callable[..., None]:
    """The same command, which ends with one line on stderr and exit code 2 on an `AuditError`."""

    @functools.wraps(command)  # typer reads the options from the signature
    def wrapped(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except AuditError as error:
            if os.environ.get("LOCAL_RANK", "0") == "0" and not isinstance(error, CrewError):
                typer.echo(f"audit: {error}", err=True)
            raise typer.Exit(USAGE_EXIT) from None

    return wrapped


def _joined(text: str) -> str:
    """A docstring with each paragraph on one line, which typer then wraps to the width of the terminal."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "report": report,
    "list": list_names,
    "bisect": bisect,
    "budget": budget,
    "calibrate": calibrate,
    "card": card,
    "compare": compare,
    "completion": completion,
    "curve": curve,
    "diff": diff,
    "doctor": doctor,
    "grid": grid,
    "locate": locate,
    "new": new,
    "rescore": rescore,
    "selfcheck": selfcheck,
    "train-mend": train_mend,
}
_store = typer.Typer(
    help="Show the size of the store, delete what is old, and find what is damaged.", no_args_is_help=True
)
for _app, _commands in ((app, COMMANDS), (_store, STORE_COMMANDS)):
    for _name, _command in _commands.items():
        _app.command(_name, help=_joined(_command.__doc__ or ""))(_with_error_line(_command))
app.add_typer(_store, name="store")


def main() -> None:
    """The console script."""
    prepare_completion()
    app(prog_name="audit")
