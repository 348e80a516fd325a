"""How a command that judges ends: the summary on the terminal, and an exit code that a script can use."""

import sys
from functools import partial
from typing import TYPE_CHECKING, Protocol

import typer

if TYPE_CHECKING:
    from audit.reports.rows import RunReport

USAGE_EXIT, INCONCLUSIVE_EXIT = 2, 3  # 0 is PASS, 1 is FAIL


class Render(Protocol):
    """From a report to text of a terminal's width."""

    def __call__(self, *, width: int, color: bool, ascii_only: bool) -> str: ...


def show(report: "RunReport") -> None:
    """The summary, as wide and as colorful as the terminal allows."""
    from audit.reports.terminal import summary

    print_summary(partial(summary, report))


def print_summary(render: Render) -> None:
    """What `render` gives, as above."""
    from rich.console import Console

    console = Console()  # knows the width, NO_COLOR and whether this is a terminal
    color = console.is_terminal and not console.no_color
    plain = not (sys.stdout.encoding or "ascii").lower().startswith("utf")
    typer.echo(render(width=console.width, color=color, ascii_only=plain), color=color)


def exit_by(report: "RunReport", inconclusive: str) -> None:
    """End the command by the outcome; `inconclusive` "skip" lets an undecided one pass."""
    if report.outcome == "FAIL":
        raise typer.Exit(1)
    if report.outcome == "INCONCLUSIVE" and inconclusive == "fail":
        raise typer.Exit(INCONCLUSIVE_EXIT)
