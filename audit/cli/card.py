"""`audit card`: what a run found, for the card of the edited model."""

from pathlib import Path
from typing import Annotated

import typer

from audit.cli.completion import run_folders


def card(
    folder: Annotated[Path, typer.Argument(help="folder of a run, such as reports/<run>", autocompletion=run_folders)],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="merge into this card, README.md; other text stays as it is")
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="REPO", help="merge into the card of this model on the hub, and commit it")
    ] = None,
    name: Annotated[str, typer.Option(help="name of the edited model (default: that of the card)")] = "",
    base_model: Annotated[
        str, typer.Option(metavar="HUB-ID", help="base model on the hub (default: that of the card or of the run)")
    ] = "",
) -> None:
    """Write the card of the edited model: metadata for the hub (model-index), and a section of Markdown.

    Without --out and --push the card is printed. A later run replaces the section and the results of an earlier one.
    Exit code: 0, or 2 for a wrong option.
    """
    from audit.reports.folder import read_report
    from audit.reports.model_card import merged_card
    from audit.workflows.model_page import push_card, write_card

    report = read_report(folder)
    if out is not None:
        write_card(out, report, name=name, base_model=base_model)
        typer.echo(f"wrote {out}")
    if push is not None:
        typer.echo(f"pushed {push_card(push, report, name=name, base_model=base_model)}")
    if out is None and push is None:
        typer.echo(merged_card("", report, name=name, base_model=base_model), nl=False)
