"""`audit run`: one audit, without pytest; with --plan-only its preflight."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli.command_line import (
    JUnitFile,
    echo_header,
    exit_by,
    junit_file,
    known_abilities,
    print_summary,
    show_new,
    takes,
    write_junit,
)
from audit.errors import AbilityError
from audit.settings.options import OPTIONS, AuditSettings

if TYPE_CHECKING:
    from audit.audit import Audit


@takes([option.name for option in OPTIONS])
def run(
    settings: AuditSettings,
    abilities: Annotated[list[str] | None, typer.Argument(help="abilities to ask (default: all eight)")] = None,
    junitxml: JUnitFile = None,
) -> None:
    """Edit a model, ask it before and after, print the verdicts and write the report.

    Margins are 0.05 score points unless --margin sets others. Exit code: 0 for PASS, 1 for FAIL, 2 for a wrong option,
    3 for INCONCLUSIVE (0 with --inconclusive skip).
    """
    names, junit = known_abilities(settings, abilities) if abilities else None, junit_file(junitxml)
    if settings.plan_only:
        show_preflight(settings, names or settings.abilities.asked)
        return
    from audit.reports.folder import write_report

    with shared_audit(settings) as audit:
        audit.prepare()
        if audit.crew.first:
            echo_header(audit.header)
        report = replace(audit.run(names), command=" ".join(["audit", *sys.argv[1:]]))
    if not audit.crew.first:
        return  # the first process prints, saves and sets the exit code
    report = replace(report, folder=str(write_report(report, settings.reports)))
    show_new(report)
    write_junit(report, junit, settings.inconclusive)
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
    from audit.reports.workflows.preflight import preflight_summary
    from audit.workflows.preflight import Preflight

    preflight = Preflight(settings)
    preflight.check()
    for name in abilities:
        with suppress(AbilityError):  # the report lists it
            preflight.assess(name)
    report = preflight.report()
    echo_header(report.header)
    print_summary(partial(preflight_summary, report))
