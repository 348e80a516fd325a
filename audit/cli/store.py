"""`audit store`: the size of the store, what was not used for long, and what is damaged."""

import json
import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from audit.cli.command_line import FAIL_EXIT, takes
from audit.errors import AuditError
from audit.settings.options import AuditSettings
from audit.store.content import store_at

SECONDS = {"h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}

AsJson = Annotated[bool, typer.Option("--json", help="print data instead of text")]


@takes(("store",))
def size(settings: AuditSettings, as_json: AsJson = False) -> None:
    """Show the size of the store, by kind of entry and by base model. Exit code: 0."""
    from audit.reports.terminal import plain_table
    from audit.reports.workflows.store import size_document, size_sentence, size_tables
    from audit.workflows.store_care import measured

    found = measured(store_at(settings.store).root)
    if as_json:
        _print_json(size_document(found))
        return
    from rich.console import Console

    for headings, lines in size_tables(found) if found.entries else ():
        Console().print(plain_table(headings, lines), "")
    typer.echo(size_sentence(found))


@takes(("store",))
def prune(
    settings: AuditSettings,
    older_than: Annotated[str, typer.Option(metavar="AGE", help="time since the last use: 30d, 12h or 4w")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be deleted")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete what was not used for some time. What a running audit locks stays.

    Later runs compute again what they miss. Exit code: 0, or 2 for a wrong option.
    """
    age = _seconds(older_than)

    from audit.reports.workflows.store import pruning_document, pruning_sentences
    from audit.workflows.store_care import pruned

    found = pruned(store_at(settings.store).root, older_than=age, dry_run=dry_run)
    if as_json:
        _print_json(pruning_document(found))
    else:
        typer.echo("\n".join(pruning_sentences(found)))


@takes(("store",))
def verify(
    settings: AuditSettings,
    remove: Annotated[bool, typer.Option("--remove", help="delete what is damaged")] = False,
    as_json: AsJson = False,
) -> None:
    """Read everything in the store and compare it with its checksum.

    Exit code: 0 if nothing damaged is left, 1 if something is, 2 for a wrong option.
    """
    from audit.reports.progress import on_terminal
    from audit.reports.workflows.store import verification_document, verification_sentences
    from audit.workflows.store_care import verified

    root = store_at(settings.store).root
    found = verified(root, remove_damaged=remove, watcher=on_terminal(sys.stderr))
    if as_json:
        _print_json(verification_document(found))
    else:
        typer.echo("\n".join(verification_sentences(found)))
    if not found.sound:
        raise typer.Exit(FAIL_EXIT)


def _seconds(age: str) -> float:
    found = re.fullmatch(r"(\d{1,6})([hdw])", age.strip(), re.ASCII)
    if not found:
        raise AuditError(f"--older-than {age!r}: give a whole number of hours, days or weeks, such as 12h, 30d or 4w.")
    return float(found[1]) * SECONDS[found[2]]


def _print_json(document: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


STORE_COMMANDS = {"size": size, "prune": prune, "verify": verify}
