"""Options as a user types them: every command that takes one of `audit run`'s takes it by the same name and words."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from audit.errors import AuditError
from audit.options import OPTIONS, AuditSettings, Option, settings_from

BY_NAME = {option.name: option for option in OPTIONS}


def as_typed(name: str) -> Any:
    """The option of this name, for a command's signature."""
    option: Option = BY_NAME[name]
    return typer.Option(option.flag, metavar=option.metavar or None, help=option.help_line, show_default=False)


def settings_of(given: Mapping[str, Any]) -> AuditSettings:
    """The settings that a command's arguments say; names that are no option of an audit are passed over."""
    typed = {name: value for name, value in given.items() if name in BY_NAME}
    return settings_from({name: value or None if BY_NAME[name].switch else value for name, value in typed.items()})


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
