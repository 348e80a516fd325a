"""`audit budget`: the largest number of edits with which all abilities PASS."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli.command_line import (
    EDIT_PLAN,
    FAIL_EXIT,
    INCONCLUSIVE_EXIT,
    echo_files,
    known_abilities,
    results_folder,
    takes,
)
from audit.settings.options import AuditSettings

if TYPE_CHECKING:
    from audit.reports.workflows.budget import Look


@takes((*EDIT_PLAN, "early_stop"))
def budget(
    settings: AuditSettings,
    abilities: Annotated[list[str] | None, typer.Argument(help="abilities to ask (default: all eight)")] = None,
    recheck: Annotated[int, typer.Option(min=0, help="smaller numbers of edits that are tried as well")] = 2,
) -> None:
    """Find how many of the --edit-count edits are safe: doubling, bisection, and a verdict on unused items.

    An interrupted search continues where it stopped. Exit code: 0 if a budget of at least one edit was found and
    confirmed, 1 if even the smallest number of edits does not pass, 2 for a wrong option, 3 if the budget was not
    confirmed.
    """
    names = known_abilities(settings, abilities)

    from audit.reports.progress import on_terminal
    from audit.reports.workflows.budget import write_budget
    from audit.workflows.budget import find_budget  # imports torch
    from audit.workflows.edit_subsets import plan_run

    with plan_run(settings, on_terminal(sys.stderr)) as run:
        found = find_budget(run, names, recheck=recheck, show=_show)
    typer.echo("\n".join(found.sentences()))
    echo_files(write_budget(found, results_folder(settings, "budget")), found.header)
    if not found.edits:
        raise typer.Exit(FAIL_EXIT)
    if not found.confirmed:
        raise typer.Exit(INCONCLUSIVE_EXIT)


def _show(look: "Look") -> None:
    from audit.reports.run_sentences import edits_phrase

    worst = look.worst
    broken = "" if worst is None else f"{worst.label} {worst.outcome}, drop {worst.verdict.drop:.3f}"
    typer.echo(f"{edits_phrase(look.edits)}: {broken or 'all PASS'}")
