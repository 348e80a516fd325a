"""`audit rescore`: a run's saved answers, parsed, scored and judged again; no model, no torch."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from audit.cli.exit_code import exit_by, show
from audit.settings.options import INCONCLUSIVE_POLICIES
from audit.settings.values import parse_choice, parse_folder, parse_margins


def rescore(
    folder: Annotated[Path, typer.Argument(help="a run's folder, such as reports/<run>")],
    margin: Annotated[list[str] | None, typer.Option(help="ABILITY=POINTS in place of the run's; repeatable")] = None,
    inconclusive: Annotated[str | None, typer.Option(help="fail or skip (default: as in the run)")] = None,
    reports: Annotated[str | None, typer.Option(help="where the new folder lands (default: beside the run)")] = None,
) -> None:
    """Score a run's saved answers again: with today's parsers and metrics, or under other margins.

    The new folder says which run it scored. Exit code: 0 PASS, 1 FAIL, 2 a wrong option, 3 INCONCLUSIVE (0 under
    --inconclusive skip).
    """
    margins = parse_margins(margin or [])
    if inconclusive is not None:
        parse_choice("--inconclusive", inconclusive, INCONCLUSIVE_POLICIES)

    from audit.reports.folder import read_report
    from audit.workflows.rescore import rescored

    run = read_report(folder, with_items=True)
    root = Path(run.folder or folder).parent if reports is None else parse_folder("--reports", reports)
    report = replace(rescored(run, margins), command=" ".join(["audit", *sys.argv[1:]]))
    report = replace(report, folder=str(report.save(root)))
    for line in report.header.lines():
        typer.echo(line, err=True)
    show(report)
    exit_by(report, inconclusive or run.settings.get("inconclusive", "fail"))
