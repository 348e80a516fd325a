"""`audit run`: one audit, without pytest; with --plan-only its preflight."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli.command_line import exit_by, known_abilities, print_summary, show, takes
from audit.errors import AbilityError
from audit.settings.options import OPTIONS, AuditSettings

if TYPE_CHECKING:
    from audit.audit import Audit


@takes([option.name for option in OPTIONS])
def run(
    settings: AuditSettings,
    abilities: Annotated[list[str] | None, typer.Argument(help="abilities to ask (default: all eight)")] = None,
) -> None:
    """Edit a model, ask it before and after, print the verdicts and write the report.

    Margins are 0.05 score points unless --margin sets others. Exit code: 0 for PASS, 1 for FAIL, 2 for a wrong option,
    3 for INCONCLUSIVE (0 with --inconclusive skip).
    """
    names = known_abilities(settings, abilities) if abilities else None
    if settings.plan_only:
        show_preflight(settings, names or settings.abilities.asked)
        return
    from audit.reports.folder import write_report
    from audit.reports.run_sentences import header_lines

    with shared_audit(settings) as audit:
        audit.prepare()
        if audit.crew.first:
            typer.echo("\n".join(header_lines(audit.header)), err=True)
        report = replace(audit.run(names), command=" ".join(["audit", *sys.argv[1:]]))
    if not audit.crew.first:
        return  # the first process prints, saves and sets the exit code
    report = replace(report, folder=str(write_report(report, settings.reports)))
    show(report)
    exit_by(report, settings.inconclusive)


@contextmanager
def shared_audit(settings: AuditSettings) -> "Iterator[Audit]":
    """This process's part of an audit that all processes of a launcher share; only the first one shows progress.

    Raises:
        AuditError: the settings do not suit the processes that were started.
    """
    from audit.answering.crew import current_crew, temporary_folder
    from audit.audit import Audit  # imports torch
    from audit.reports.progress import on_terminal

    with ExitStack() as stack:
        crew, device = stack.enter_context(current_crew(settings.device))
        watcher = on_terminal(sys.stderr) if crew.first else None
        audit = crew.run_in_all(lambda: Audit(replace(settings, device=device), watcher=watcher, crew=crew))
        if crew.size > 1 and not settings.use_store:
            audit.share_folder(Path(stack.enter_context(temporary_folder(crew))))
        yield audit


def show_preflight(settings: AuditSettings, abilities: Sequence[str]) -> None:
    """Print which margins a run could certify and how long it would take; no model is loaded.

    Raises:
        AuditError: the data of no ability can be read.
    """
    from audit.reports.run_sentences import header_lines
    from audit.reports.workflows.preflight import preflight_summary
    from audit.workflows.preflight import Preflight

    preflight = Preflight(settings)
    preflight.check()
    for name in abilities:
        with suppress(AbilityError):  # the report lists it
            preflight.assess(name)
    report = preflight.report()
    typer.echo("\n".join(header_lines(report.header)), err=True)
    print_summary(partial(preflight_summary, report))
