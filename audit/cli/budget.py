"""`audit budget`: the largest number of edits for which all abilities PASS."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli.edit_options import folder_for, judges_a_plan
from audit.cli.exit_code import INCONCLUSIVE_EXIT
from audit.cli.options import known_abilities
from audit.settings.options import AuditSettings

if TYPE_CHECKING:
    from audit.reports.workflows.budget import Look


@judges_a_plan
def budget(
    settings: AuditSettings,
    abilities: Annotated[list[str] | None, typer.Argument(help="the abilities to ask; all eight when left out")] = None,
    recheck: Annotated[int, typer.Option(min=0, help="numbers below the budget that are tried as well")] = 2,
) -> None:
    """Find how many of the --edit-count edits are safe: doubling, bisection, and a verdict on items not used before.

    A second run goes on where the first ended. Exit code: 0 when a budget of at least one edit was found and
    confirmed, 1 when not even the fewest edits pass, 2 for a wrong option, 3 when it was not confirmed.
    """
    names = known_abilities(abilities or [])

    from audit.reports.progress import on_terminal
    from audit.reports.workflows.budget import write_budget
    from audit.workflows.budget import find_budget  # brings torch
    from audit.workflows.edit_subsets import opened

    with opened(settings, on_terminal(sys.stderr)) as run:
        found = find_budget(run, names, recheck=recheck, told=_told)
    for sentence in found.sentences():
        typer.echo(sentence)
    for file in write_budget(found, folder_for("budget", settings)):
        typer.echo(f"wrote {file}")
    if not found.edits:
        raise typer.Exit(1)
    if not found.confirmed:
        raise typer.Exit(INCONCLUSIVE_EXIT)


def _told(look: "Look") -> None:
    edits = "1 edit" if look.edits == 1 else f"{look.edits} edits"
    worst = look.worst
    typer.echo(
        f"{edits}: " + ("all PASS" if worst is None else f"{worst.named} {worst.outcome}, drop {worst.drop:.3f}")
    )
