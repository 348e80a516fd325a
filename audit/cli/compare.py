"""`audit compare`: verdicts on results that exist, from other tools or from runs here, without a model."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli.command_line import JUnitFile, echo_header, exit_by, junit_file, show_new, write_junit
from audit.cli.completion import run_folders
from audit.errors import AuditError
from audit.settings.options import INCONCLUSIVE_POLICIES
from audit.settings.values import parse_choice, parse_folder, parse_named

if TYPE_CHECKING:
    from audit.reports.rows import RunReport


def compare(
    base: Annotated[
        Path, typer.Argument(help="results of the base model: a file or a folder", autocompletion=run_folders)
    ],
    edited: Annotated[
        list[Path], typer.Argument(help="results of the edited model, or of several", autocompletion=run_folders)
    ],
    margin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[ABILITY=]MARGIN", help="largest acceptable drop, 0.03, or share to keep, 90%; repeatable"
        ),
    ] = None,
    floor: Annotated[
        list[str] | None,
        typer.Option(metavar="[ABILITY=]SCORE", help="score of a model that cannot do the ability; repeatable"),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="[TASK=]NAME", help="metric to compare (default: the first of the file); repeatable"),
    ] = None,
    by_task: Annotated[bool, typer.Option("--by-task", help="one ability for each task of a group")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="drop items and tasks that not both models have")
    ] = False,
    trend: Annotated[
        bool,
        typer.Option("--trend", help="the edited models are checkpoints in order: compare each with the one before"),
    ] = False,
    inconclusive: Annotated[str, typer.Option(metavar="fail|skip", help="outcome of INCONCLUSIVE")] = "fail",
    junitxml: JUnitFile = None,
    reports: Annotated[str, typer.Option(metavar="DIR", help="parent of the report's folder")] = "reports",
) -> None:
    """Compare per-item scores of a base model and of edited models that were evaluated elsewhere.

    Reads samples of lm-evaluation-harness (--log_samples), logs of inspect_ai, tables with the columns id and score
    (JSONL, CSV, Parquet), and folders of runs. Items are paired by id and content.

    Margins are 0.05 score points unless --margin sets others. Exit code: 0 for PASS, 1 for FAIL, 2 for wrong input, 3
    for INCONCLUSIVE (0 with --inconclusive skip).
    """
    start = time.perf_counter()
    parse_choice("--inconclusive", inconclusive, INCONCLUSIVE_POLICIES)
    root = parse_folder("--reports", reports)
    if trend and len(edited) < 2:
        raise AuditError("--trend compares checkpoints in order, and there is one; give at least two after BASE.")
    junit = junit_file(junitxml)

    from audit.reports.folder import write_report
    from audit.verdicts.margins import parse_margin
    from audit.workflows.compare import Terms, compared
    from audit.workflows.results.choices import Choices
    from audit.workflows.results.origin import read_results

    margins = parse_named("--margin", margin or [])
    terms = Terms(
        margins={
            name: parse_margin(text, f"--margin {name}{'=' * bool(name)}{text}") for name, text in margins.items()
        },
        floors={name: _floor(text) for name, text in parse_named("--floor", floor or []).items()},
        allow_missing=allow_missing,
    )
    choices = Choices(parse_named("--metric", metric or []), by_task)
    models = [read_results(path, choices, edited=k > 0) for k, path in enumerate((base, *edited))]
    read = time.perf_counter()
    found = compared(models[0], models[1:], terms, trend=trend)
    report = replace(
        found.report,
        command=" ".join(["audit", *sys.argv[1:]]),
        seconds={"reading": read - start, **found.report.seconds},
    )
    report = replace(report, folder=str(write_report(report, root, found.item_lines())))
    echo_header(report.header)
    if trend:
        show_trend(report)
    show_new(report)
    write_junit(report, junit, inconclusive)
    exit_by(report, inconclusive)


def show_trend(report: "RunReport") -> None:
    """Print the table of the checkpoints."""
    from rich.console import Console

    from audit.reports.terminal import plain_table
    from audit.reports.workflows.compare import trend_rows

    headings, lines = trend_rows(report)
    Console().print(plain_table(headings, lines), "")


def _floor(text: str) -> float:
    try:
        floor = float(text)
    except ValueError:
        floor = -1.0
    if not 0 <= floor < 1:
        raise AuditError(f"--floor {text}: give a score from 0 to below 1, such as 0.25 for four choices.")
    return floor
