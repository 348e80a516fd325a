"""The defaults of a project: the table `[tool.audit]` of its pyproject.toml.

    [tool.audit]
    model = "./my-model"                             # any option by its name, with dashes or underscores
    data = "hub"
    early-stop = true
    margin = { reasoning = 0.03, nli = "90%" }

Options on the command line override the table, and the table overrides suites and built-in defaults; margins do so for
each ability by itself. A path that begins with a dot is relative to the folder of the file.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.errors import AuditError
from audit.settings.declaration import Option
from audit.settings.options import OPTIONS
from audit.settings.values import suggestion

TABLE = "[tool.audit]"


def nearest_project(start: Path) -> Path | None:
    """The nearest folder with a pyproject.toml, from `start` upwards; None if there is none."""
    folders = (start, *start.parents)
    return next((folder for folder in folders if (folder / "pyproject.toml").is_file()), None)


def with_project_defaults(typed: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """The options as typed, by name, filled up with those of the project in `folder`; the names are those in `typed`.

    Raises:
        AuditError: the file is not TOML, names an unknown option, or sets an option to a value of the wrong type.
    """
    found = {} if folder is None else project_defaults(folder)
    given = {name: value for name, value in typed.items() if value is not None and value != []}
    replaced = {name for option in OPTIONS if option.name in given for name in option.replaces}
    found = {name: value for name, value in found.items() if name not in replaced}
    for option in OPTIONS:
        if option.kind.by_ability and option.name in given and option.name in found:
            typed_for = {_ability_of(text) for text in given[option.name]}
            kept = [text for text in found[option.name] if _ability_of(text) not in typed_for]
            given[option.name] = [*kept, *given[option.name]]
        if option.kind.listed and option.name in given:
            given[option.name] = [*found.get(option.name, ()), *given[option.name]]
    return {name: given.get(name, found.get(name)) for name in typed}


def _ability_of(text: str) -> str:
    """The ability that `ABILITY=VALUE` names; "" for a value alone."""
    name, equals, _ = text.partition("=")
    return name.strip() if equals else ""


def project_defaults(folder: Path) -> dict[str, Any]:
    """The table as option values by option name, as if they had been typed; empty if there is no table."""
    path = folder / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("audit", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AuditError(f"{path} is not TOML ({error}); correct it.") from None
    options = {option.name: option for option in OPTIONS}
    defaults: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in options or not options[name].in_project:
            guess = "" if name in options else suggestion(name, options).replace("_", "-")
            raise AuditError(f"{path}, {TABLE}: {key!r} is not an option that a project can set{guess}; remove it.")
        defaults[name] = _typed(options[name], value, key, path)
    return defaults


def _typed(option: Option, value: Any, key: str, path: Path) -> Any:
    if option.kind.switch:
        if isinstance(value, bool):
            return value or None
        raise AuditError(f"{path}, {TABLE}: {key} = {value!r} is neither true nor false; use one of the two.")
    if option.kind.repeatable:
        if isinstance(value, str) and option.kind.takes_one:
            return [option.kind.from_folder(path.parent, value)]
        if option.kind.listed:
            if isinstance(value, list) and all(isinstance(one, str) for one in value):
                return [option.kind.from_folder(path.parent, one) for one in value]
            raise AuditError(f'{path}, {TABLE}: {key} = {value!r} is not a list of texts; write ["name"].')
        if isinstance(value, dict) and all(_plain(one) for one in value.values()):
            return [f"{name}={one}" for name, one in value.items()]
        raise AuditError(
            f"{path}, {TABLE}: {key} = {value!r} is not a table of names and values; write {{ name = value }}."
        )
    if not _plain(value):
        raise AuditError(f"{path}, {TABLE}: {key} = {value!r} is neither a string nor a number; use one of the two.")
    return option.kind.from_folder(path.parent, str(value))


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
