"""What the commands share: options of an audit, names of abilities and folders, the summary, and exit codes."""

import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.models import ArgumentInfo

from audit.cli.completion import ability_names, values_of
from audit.errors import AuditError
from audit.settings.declaration import Option
from audit.settings.options import OPTIONS, AuditSettings, settings_from
from audit.settings.project_defaults import nearest_project, with_project_defaults
from audit.settings.values import file_name, short_name

if TYPE_CHECKING:
    from audit.reports.rows import RunHeader, RunReport
    from audit.reports.terminal import Render

# pytest's name for it, with a shorter one.
JUnitFile = Annotated[
    Path | None,
    typer.Option("--junitxml", "--junit", metavar="FILE", help="also write the verdicts as JUnit XML"),
]

FAIL_EXIT, USAGE_EXIT, INCONCLUSIVE_EXIT = 1, 2, 3  # 0 is PASS

# The options of every command that asks items.
ASKING = (
    "model",
    "revision",
    "data",
    "ability",
    "protocol",
    "shots",
    "chat_template",
    "limit",
    "seed",
    "device",
    "dtype",
    "store",
)
EDITING = ("editor", "edits", "edit_mode", "edit_count", "edit_batch_size", "edit_seed", "editor_config", "restraint")
# The options of commands that run an edit plan in parts: bisect, budget and curve.
EDIT_PLAN = (*ASKING, *EDITING, "margin", "reports", "no_items", "no_store", "no_reuse")


def takes(names: Collection[str], *, project: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that adds options of an audit to a command, which gets them as its argument `settings`.

    @takes(("model", "limit"))
    def command(settings: AuditSettings, abilities: ...) -> None: ...

    With `project`, the `[tool.audit]` table of the nearest pyproject.toml sets defaults. A command that has an argument
    `abilities` gets those typed there and with --ability together, and either place takes names, files and classes.
    """
    added = [_parameter(option) for option in OPTIONS if option.name in names]
    switches = {option.name for option in OPTIONS if option.kind.switch}

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        own = [one for one in inspect.signature(command).parameters.values() if one.name != "settings"]
        arguments = [_argument_of(one) for one in own if one.name == "abilities" and _is_argument(one)]
        chosen = "ability" in names and bool(arguments)
        for argument in arguments:
            argument.autocompletion = ability_names

        def with_settings(**given: Any) -> None:
            typed = {option.name: given.pop(option.name) for option in added}
            typed |= {name: typed[name] or None for name in switches & typed.keys()}  # not given: the default
            if chosen:
                typed["ability"] = given["abilities"] = [*(given["abilities"] or ()), *(typed["ability"] or ())]
            folder = nearest_project(Path.cwd()) if project else None
            command(settings_from(with_project_defaults(typed, folder)), **given)

        with_settings.__name__, with_settings.__doc__ = command.__name__, command.__doc__
        parameters = [*own, *added]  # typer reads the options from the signature
        with_settings.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_settings.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_settings

    return decorated


def _parameter(option: Option) -> inspect.Parameter:
    kind: Any = bool if option.kind.switch else list[str] | None if option.kind.repeatable else str | None
    text = typer.Option(
        option.flag,
        metavar=option.metavar or None,
        help=option.help_line,
        show_default=False,
        autocompletion=values_of(option),
    )
    default = False if option.kind.switch else None
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, text]
    )


def _argument_of(parameter: inspect.Parameter) -> Any:
    return parameter.annotation.__metadata__[0]


def _is_argument(parameter: inspect.Parameter) -> bool:
    return isinstance(_argument_of(parameter), ArgumentInfo)


def known_abilities(settings: AuditSettings, typed: Sequence[str] | None) -> list[str]:
    """The names of the abilities that were typed, or else those of the project, or else the eight built-in ones."""
    abilities = settings.abilities
    return list(dict.fromkeys(abilities.name_of(text) or text for text in typed or abilities.asked))


def results_folder(settings: AuditSettings, command: str, *names: str) -> Path:
    """The folder for the results of a command: `reports/curve-memit-pocket-llama`, or with `names` instead."""
    words = names or (settings.editor.rsplit(":", 1)[-1], settings.model)
    return settings.reports / "-".join([command, *(file_name(short_name(word)) for word in words)])


def echo_files(files: Iterable[Path], header: "RunHeader") -> None:
    """Print the names of the files that were written, and then what limits the results."""
    from audit.reports.run_sentences import caveats

    typer.echo("\n".join([*(f"wrote {file}" for file in files), *caveats(header)]))


def show(report: "RunReport") -> None:
    """Print the summary of a run."""
    from audit.reports.terminal import summary

    print_summary(partial(summary, report))


def echo_header(header: "RunHeader") -> None:
    """Print the header of a run on stderr."""
    from audit.reports.github import log_text
    from audit.reports.run_sentences import header_lines

    typer.echo(log_text("\n".join(header_lines(header)), os.environ), err=True)


def show_new(report: "RunReport") -> None:
    """Print the summary of a run that was just made; in a job of GitHub, leave there what the job takes."""
    from audit.reports.github import publish

    show(report)
    for line in publish(report, os.environ):
        typer.echo(line, err=True)  # the runner reads both streams


def write_junit(report: "RunReport", file: Path | None, inconclusive: str) -> None:
    """Write the verdicts as JUnit XML if there is a file for them; `inconclusive` as in `exit_by`.

    Raises:
        AuditError: the file cannot be written.
    """
    if file is not None:
        from audit.reports.folder import write_texts
        from audit.reports.junit import junit_xml

        text = junit_xml(report, skip_inconclusive=inconclusive == "skip")
        write_texts(file.parent, {file.name: text}, "--junitxml")


def junit_file(file: Path | None) -> Path | None:
    """The value of --junitxml. Raises `AuditError` if it is a folder."""
    if file is not None and file.is_dir():
        raise AuditError(f"--junitxml {file}: that is a folder, not a file; give a file.")
    return file


def print_summary(render: "Render") -> None:
    """Print the text of `render`, as wide and as colorful as the terminal allows."""
    from rich.console import Console

    from audit.reports.github import log_text

    console = Console()  # knows the width, NO_COLOR and whether this is a terminal
    color = console.is_terminal and not console.no_color
    plain = not (sys.stdout.encoding or "ascii").lower().startswith("utf")
    text = render(width=console.width, color=color, ascii_only=plain)
    typer.echo(log_text(text, os.environ), color=color)


def exit_by(report: "RunReport", inconclusive: str) -> None:
    """End the command by the outcome of the run; INCONCLUSIVE counts as success if `inconclusive` is "skip"."""
    if report.outcome == "FAIL":
        raise typer.Exit(FAIL_EXIT)
    if report.outcome == "INCONCLUSIVE" and inconclusive == "fail":
        raise typer.Exit(INCONCLUSIVE_EXIT)
