"""`audit bisect`: which edit, or which smallest set of edits, the harm of a failing plan comes from."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli.edit_options import folder_for, takes_a_plan
from audit.cli.exit_code import INCONCLUSIVE_EXIT
from audit.cli.options import known_abilities
from audit.settings.options import AuditSettings

if TYPE_CHECKING:
    from audit.reports.workflows.bisect import Evaluation


@takes_a_plan
def bisect(
    settings: AuditSettings,
    ability: Annotated[
        list[str] | None, typer.Option(help="ask this one (default: what drops most); repeatable")
    ] = None,
    evaluations: Annotated[int, typer.Option(min=1, help="how often the ability may be asked in all")] = 32,
) -> None:
    """Find the edits that make a plan FAIL, and what they cost on items that had no part in the search.

    Sequences are searched by their prefixes, batches by halves; if no single edit is responsible, the smallest failing
    set is looked for. A second run goes on where the first ended. Exit code: 0 when edits were found and their harm is
    confirmed, 1 when the plan does not fail, 2 for a wrong option, 3 when the harm was not confirmed.
    """
    names = known_abilities(ability or [])

    from audit.reports.progress import on_terminal
    from audit.reports.workflows.bisect import write_culprits
    from audit.workflows.bisect import NothingToFind, find_culprits  # brings torch
    from audit.workflows.edit_subsets import opened

    with opened(settings, on_terminal(sys.stderr)) as run:
        try:
            found = find_culprits(run, names, evaluations=evaluations, told=_told)
        except NothingToFind as nothing:
            typer.echo(str(nothing))
            raise typer.Exit(1) from None
    for sentence in found.sentences():
        typer.echo(sentence)
    for file in write_culprits(found, folder_for("bisect", settings)):
        typer.echo(f"wrote {file}")
    if not found.confirmed:
        raise typer.Exit(INCONCLUSIVE_EXIT)


def _told(one: "Evaluation") -> None:
    word = "fails" if one.failed else "does not fail"
    near = "" if one.sure else ", a near thing"
    typer.echo(f"{one.edits}: {word}, drop {one.drop:.3f} on {one.n} items{near}")
