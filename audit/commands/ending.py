"""How a command that judges ends: the summary on the terminal, and an exit code that a script can use."""

import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from audit.reports.run import RunReport

USAGE_EXIT, INCONCLUSIVE_EXIT = 2, 3  # 0 is PASS, 1 is FAIL


def show(report: "RunReport") -> None:
    """The summary, as wide and as colorful as the terminal allows."""
    from rich.console import Console

    from audit.reports.terminal import summary

    console = Console()  # knows the width, NO_COLOR and whether this is a terminal
    color = console.is_terminal and not console.no_color
    plain = not (sys.stdout.encoding or "ascii").lower().startswith("utf")
    typer.echo(summary(report, width=console.width, color=color, ascii_only=plain), color=color)


def exit_by(report: "RunReport", inconclusive: str) -> None:
    """End the command by the outcome; `inconclusive` "skip" lets an undecided one pass."""
    if report.outcome == "FAIL":
        raise typer.Exit(1)
    if report.outcome == "INCONCLUSIVE" and inconclusive == "fail":
        raise typer.Exit(INCONCLUSIVE_EXIT)
