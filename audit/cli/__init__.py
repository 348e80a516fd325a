"""The `audit` command: the same audit as the suites', without pytest. Torch is imported by `audit run` only."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.cli.bisect import bisect
from audit.cli.budget import budget
from audit.cli.calibrate import calibrate
from audit.cli.curve import curve
from audit.cli.diff import diff
from audit.cli.exit_code import USAGE_EXIT, exit_by, show
from audit.cli.grid import grid
from audit.cli.locate import locate
from audit.cli.options import known_abilities, takes
from audit.cli.preflight import show_preflight
from audit.cli.rescore import rescore
from audit.cli.selfcheck import selfcheck
from audit.cli.train_mend import train_mend
from audit.errors import AuditError, SharedError
from audit.settings.options import OPTIONS, AuditSettings

app = typer.Typer(
    help="Does editing a language model hurt what it could already do?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except AuditError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0" and not isinstance(error, SharedError):
            typer.echo(f"audit: {error}", err=True)
        raise typer.Exit(USAGE_EXIT) from None


def _in_one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """The same command, whose `AuditError` ends it with one sentence."""

    @functools.wraps(command)  # typer reads the options off the signature
    def told(*args: Any, **options: Any) -> None:
        with _one_sentence():
            command(*args, **options)

    return told


@app.command("run")
@_in_one_sentence
@takes([option.name for option in OPTIONS])
def run(
    settings: AuditSettings,
    abilities: Annotated[list[str] | None, typer.Argument(help="the abilities to ask; all eight when left out")] = None,
) -> None:
    """Edit a model, ask before and after, print the verdicts and write the report.

    Margins are 0.05 score points unless --margin says otherwise. Exit code: 0 PASS, 1 FAIL, 2 a wrong option,
    3 INCONCLUSIVE (0 under --inconclusive skip).
    """
    asked = known_abilities(abilities) if abilities else None
    if settings.plan_only:
        show_preflight(settings, known_abilities(abilities or []))
        return
    from audit.workflows.launch import audit_here  # brings torch

    with audit_here(settings, _watcher()) as audit:
        audit.prepare()
        for line in audit.header.lines() if audit.crew.first else ():
            typer.echo(line, err=True)
        report = replace(audit.run(asked), command=" ".join(["audit", *sys.argv[1:]]))
    if not audit.crew.first:
        return  # another process of this audit shows, saves and judges
    report = replace(report, folder=str(report.save(settings.reports)))
    show(report)
    exit_by(report, settings.inconclusive)


@app.command("report")
def report_command(folder: Annotated[Path, typer.Argument(help="a run's folder, such as reports/<run>")]) -> None:
    """Show the summary of an earlier run again, from its verdict.json."""
    from audit.reports.folder import read_report

    with _one_sentence():
        report = read_report(folder)
    for line in report.header.lines():
        typer.echo(line)
    show(report)


@app.command("list")
def list_command() -> None:
    """List the abilities, the protocols, the editors, the restraints and the pocket models."""
    from audit.abilities import ABILITIES, PROTOCOLS
    from audit.editors import EDITORS
    from audit.editors.restraints.choice import RESTRAINTS

    weights = Path(__file__).resolve().parents[1] / "pocket" / "weights"
    pocket = sorted(path.parent.name for path in weights.glob("pocket-*/config.json"))
    listed = (
        ("abilities", ABILITIES),
        ("protocols", PROTOCOLS),
        ("editors", EDITORS),
        ("restraints", RESTRAINTS.values()),
        ("pocket models", pocket),
    )
    for title, names in listed:
        typer.echo(f"{title}: {', '.join(names) or 'none'}")


app.command("bisect")(_in_one_sentence(bisect))
app.command("budget")(_in_one_sentence(budget))
app.command("calibrate")(_in_one_sentence(calibrate))
app.command("curve")(_in_one_sentence(curve))
app.command("diff")(_in_one_sentence(diff))
app.command("grid")(_in_one_sentence(grid))
app.command("locate")(_in_one_sentence(locate))
app.command("rescore")(_in_one_sentence(rescore))
app.command("selfcheck")(_in_one_sentence(selfcheck))
app.command("train-mend")(_in_one_sentence(train_mend))


def main() -> None:
    """The console script."""
    app(prog_name="audit")


def _watcher() -> Any:
    """Progress on a terminal, nothing elsewhere."""
    from audit.reports.progress import on_terminal

    return on_terminal(sys.stderr)


if __name__ == "__main__":  # launchers of several processes start modules
    main()
