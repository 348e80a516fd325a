"""`audit bisect`: the edit, or the smallest set of edits, that makes an edit plan fail."""

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
    from audit.reports.workflows.bisect import Evaluation


@takes(EDIT_PLAN)
def bisect(
    settings: AuditSettings,
    abilities: Annotated[
        list[str] | None, typer.Argument(help="abilities to search with: the one that drops most (default: all eight)")
    ] = None,
    evaluations: Annotated[int, typer.Option(min=1, help="maximum number of evaluations of the ability")] = 32,
) -> None:
    """Find the edits that make an edit plan FAIL, and measure their harm on items that the search did not use.

    Sequential plans are searched by prefixes, batches by halves. If no single edit is responsible, the smallest failing
    set is searched for. An interrupted search continues where it stopped. Exit code: 0 if edits were found and their
    harm is confirmed, 1 if the plan does not fail, 2 for a wrong option, 3 if the harm was not confirmed.
    """
    names = known_abilities(settings, abilities)

    from audit.reports.progress import on_terminal
    from audit.reports.workflows.bisect import write_culprits
    from audit.workflows.bisect import NothingToFind, find_culprits  # imports torch
    from audit.workflows.edit_subsets import plan_run

    with plan_run(settings, on_terminal(sys.stderr)) as run:
        try:
            found = find_culprits(run, names, evaluations=evaluations, show=_show)
        except NothingToFind as nothing:
            typer.echo(str(nothing))
            raise typer.Exit(FAIL_EXIT) from None
    typer.echo("\n".join(found.sentences()))
    echo_files(write_culprits(found, results_folder(settings, "bisect")), found.header)
    if not found.confirmed:
        raise typer.Exit(INCONCLUSIVE_EXIT)


def _show(one: "Evaluation") -> None:
    outcome = "fails" if one.failed else "does not fail"
    near = "" if one.sure else ", not certain"
    typer.echo(f"{one.edits}: {outcome}, drop {one.verdict.drop:.3f} on {one.verdict.n} items{near}")
