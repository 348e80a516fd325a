"""`audit completion`: completion of commands, options and values in the shell; and which values there are.

typer asks this command for completions while `_AUDIT_COMPLETE` is set, so nothing slow is imported here.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer
import typer.completion

from audit.abilities import ABILITIES
from audit.abilities.registry import entry_point_names
from audit.editors import EDITORS
from audit.editors.restraints.choice import RESTRAINTS
from audit.pocket import pocket_names
from audit.settings.declaration import Option
from audit.settings.values import DEVICES, READINGS, Choice, parse_choice

VARIABLE = "_AUDIT_COMPLETE"  # click's name for it
SHELLS = ("bash", "zsh", "fish")
# How each shell loads the script now, and at every start.
INSTRUCTIONS = {
    "bash": (
        'eval "$(audit completion bash)"',
        "audit completion bash > ~/.local/share/bash-completion/completions/audit",
    ),
    "zsh": (
        'eval "$(audit completion zsh)"',
        "audit completion zsh > ~/.zfunc/_audit, with ~/.zfunc in fpath before compinit",
    ),
    "fish": ("audit completion fish | source", "audit completion fish > ~/.config/fish/completions/audit.fish"),
}

Completion = Callable[[str], list[str]]  # the beginning of a value -> values; typer drops those that do not fit


def completion(
    shell: Annotated[
        str, typer.Argument(metavar="bash|zsh|fish", help="the shell", autocompletion=lambda: list(SHELLS))
    ],
) -> None:
    """Print the script that completes commands, options and values in a shell; its first lines say how to load it."""
    parse_choice("audit completion", shell, SHELLS)
    # In every typer since 0.12, but not among the names that it exports to type checkers.
    script = typer.completion.get_completion_script(  # type: ignore[attr-defined]
        prog_name="audit", complete_var=VARIABLE, shell=shell
    )
    first, *rest = script.split("\n")
    now, always = INSTRUCTIONS[shell]
    notes = [f"# for this shell:  {now}", f"# for every shell: {always}"]
    typer.echo("\n".join([first, *notes, *rest] if first.startswith("#compdef") else [*notes, first, *rest]))


def prepare_completion() -> None:
    """Make typer answer the shell, if it is the shell that calls."""
    if VARIABLE in os.environ:
        typer.completion.completion_init()  # type: ignore[attr-defined]


def ability_names() -> list[str]:
    """The built-in abilities and those of installed packages."""
    return [*dict.fromkeys((*ABILITIES, *entry_point_names()))]


def run_folders(incomplete: str) -> list[str]:
    """The folders of runs beside what was typed, or in reports/."""
    parent = Path(incomplete.rpartition("/")[0] or ("/" if incomplete.startswith("/") else "reports"))
    return sorted(str(file.parent) for file in parent.glob("*/verdict.json"))


def values_of(option: Option) -> Completion | None:
    """The values of an option that can be listed; None if the shell should complete files, or nothing is known."""
    listed = option.kind.choices if isinstance(option.kind, Choice) else _VALUES.get(option.name)
    return None if listed is None else _listing(listed)


def _listing(values: Iterable[str] | Callable[[], Iterable[str]]) -> Completion:
    return lambda incomplete: list(values() if callable(values) else values)


_VALUES: dict[str, Iterable[str] | Callable[[], Iterable[str]]] = {
    "ability": ability_names,
    "editor": EDITORS,
    "model": pocket_names,
    "edits": ("pocket",),
    "data": ("pocket", "hub"),
    "device": [device for device in DEVICES if device != "cuda:N"],
    "reading": READINGS,
    "restraint": [f"{name}:" for name in RESTRAINTS],
}
