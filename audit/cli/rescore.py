"""`audit rescore`: the saved answers of a run, parsed, scored and judged again without a model."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from audit.cli.command_line import echo_header, exit_by, show_new
from audit.cli.completion import run_folders
from audit.settings.options import INCONCLUSIVE_POLICIES
from audit.settings.values import parse_choice, parse_folder, parse_margins


def rescore(
    folder: Annotated[Path, typer.Argument(help="folder of a run, such as reports/<run>", autocompletion=run_folders)],
    margin: Annotated[
        list[str] | None, typer.Option(metavar="ABILITY=MARGIN", help="margin that replaces the run's own; repeatable")
    ] = None,
    inconclusive: Annotated[
        str | None, typer.Option(metavar="fail|skip", help="outcome of INCONCLUSIVE (default: as in the run)")
    ] = None,
    reports: Annotated[
        str | None, typer.Option(metavar="DIR", help="parent of the new folder (default: that of the run)")
    ] = None,
) -> None:
    """Score the saved answers of a run again, with the installed parsers and metrics or with other margins.

    The report in the new folder names the run. Exit code: 0 for PASS, 1 for FAIL, 2 for a wrong option, 3 for
    INCONCLUSIVE (0 with --inconclusive skip).
    """
    margins = parse_margins(margin or [])
    if inconclusive is not None:
        parse_choice("--inconclusive", inconclusive, INCONCLUSIVE_POLICIES)

    from audit.reports.folder import read_report, write_report
    from audit.workflows.rescore import rescored

    run = read_report(folder, with_items=True)
    root = Path(run.folder or folder).parent if reports is None else parse_folder("--reports", reports)
    report = replace(rescored(run, margins), command=" ".join(["audit", *sys.argv[1:]]))
    report = replace(report, folder=str(write_report(report, root)))
    echo_header(report.header)
    show_new(report)
    exit_by(report, inconclusive or run.settings.get("inconclusive", "fail"))
