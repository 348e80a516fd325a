"""Options as a user types them: every command that takes one of `audit run`'s takes it by the same name and words."""

import inspect
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.errors import AuditError
from audit.settings.declaration import Option
from audit.settings.options import OPTIONS, settings_from
from audit.settings.project_defaults import nearest_project, with_project_defaults

# What a model is asked, and where that is kept: every command that asks takes these.
ASKING = (
    "model",
    "revision",
    "data",
    "protocol",
    "shots",
    "chat_template",
    "limit",
    "seed",
    "device",
    "dtype",
    "store",
)


def takes(names: Collection[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The command with these options of an audit behind its own; its argument `settings` is made from them.

    @takes(("model", "limit"))
    def command(settings: AuditSettings, abilities: ...) -> None: ...
    """
    shared = [_parameter(option) for option in OPTIONS if option.name in names]
    switches = {option.name for option in OPTIONS if option.switch}

    def taking(command: Callable[..., None]) -> Callable[..., None]:
        own = [one for one in inspect.signature(command).parameters.values() if one.name != "settings"]

        def told(**given: Any) -> None:
            typed = {option.name: given.pop(option.name) for option in shared}
            # A switch that was not given is no choice.
            typed |= {name: typed[name] or None for name in switches & typed.keys()}
            command(settings_from(with_project_defaults(typed, nearest_project(Path.cwd()))), **given)

        told.__name__, told.__doc__ = command.__name__, command.__doc__
        parameters = [*own, *shared]  # typer reads the options off the signature
        told.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        told.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return told

    return taking


def known_abilities(names: Sequence[str]) -> list[str]:
    """The abilities of these names, or all eight where there are none.

    Raises:
        AuditError: there is no ability of one of the names.
    """
    from audit.abilities import ABILITIES

    for name in names:
        if name not in ABILITIES:
            raise AuditError(f"there is no ability {name!r}; give one of {', '.join(ABILITIES)}.")
    return list(names or ABILITIES)


def _parameter(option: Option) -> inspect.Parameter:
    kind: Any = bool if option.switch else list[str] | None if option.repeatable else str | None
    text = typer.Option(option.flag, metavar=option.metavar or None, help=option.help_line, show_default=False)
    default = False if option.switch else None
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, text]
    )
