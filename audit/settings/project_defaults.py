"""What a project wants where nothing is typed: the table `[tool.audit]` of its pyproject.toml.

    [tool.audit]
    model = "./my-model"                             # any option by its name, with dashes or underscores
    data = "hub"
    early-stop = true
    margin = { reasoning = 0.03, nli = "90%" }

What is typed goes before what stands here, and what stands here before what a suite states and before the defaults;
margins do so ability by ability. A path that begins with a dot starts at the file's own folder.
"""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audit.errors import AuditError
from audit.settings.options import OPTIONS, Option

TABLE = "[tool.audit]"
# Typing the first says something else than what the others, if they only stand in the file, would go with.
_GIVES_WAY = {
    "editor": ("edited", "editor_config", "patch"),
    "edited": ("editor", "edit_mode", "edit_batch_size", "editor_config", "restraint", "patch"),
    "model": ("revision",),
    "store": ("no_store",),
    "no_store": ("store",),
}
_FOLDERS = ("reports", "patch", "store")
_NAMES_OR_PATHS = ("model", "edited", "edits", "data")


def nearest_project(start: Path) -> Path | None:
    """The nearest folder, from `start` upwards, that holds a pyproject.toml."""
    folders = (start, *start.parents)
    return next((folder for folder in folders if (folder / "pyproject.toml").is_file()), None)


def with_project_defaults(typed: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """The options as typed, by name, and those of the project in `folder` where nothing was; only names in `typed`.

    Raises:
        AuditError: the file is no TOML, or names what is no option, or gives an option what it cannot take.
    """
    found = {} if folder is None else project_defaults(folder)
    given = {name: value for name, value in typed.items() if value is not None and value != []}
    for name, others in _GIVES_WAY.items():
        if name in given:
            found = {other: value for other, value in found.items() if other not in others}
    if "margin" in given and "margin" in found:
        said = {text.partition("=")[0].strip() for text in given["margin"]}
        kept = [text for text in found["margin"] if text.partition("=")[0] not in said]
        given["margin"] = [*kept, *given["margin"]]
    return {name: given.get(name, found.get(name)) for name in typed}


def project_defaults(folder: Path) -> dict[str, Any]:
    """The table as option strings by option name, as if they had been typed; empty where there is none."""
    path = folder / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("audit", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AuditError(f"{path} is not TOML ({error}); mend it.") from None
    options = {option.name: option for option in OPTIONS}
    defaults: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in options or name == "plan_only":
            close = difflib.get_close_matches(name, options, n=1)
            guess = f" (did you mean {close[0].replace('_', '-')!r}?)" if close and name not in options else ""
            raise AuditError(f"{path}, {TABLE}: {key!r} is no option that a project can set{guess}; take it out.")
        defaults[name] = _typed(options[name], value, key, path)
    return defaults


def _typed(option: Option, value: Any, key: str, path: Path) -> Any:
    if option.switch:
        if isinstance(value, bool):
            return value or None
        raise AuditError(f"{path}, {TABLE}: {key} = {value!r} is neither true nor false; give one of the two.")
    if option.repeatable:
        if isinstance(value, dict) and all(_plain(one) for one in value.values()):
            return [f"{name}={one}" for name, one in value.items()]
        raise AuditError(
            f"{path}, {TABLE}: {key} = {value!r} is no table of names and values; write {{ name = value }}."
        )
    if not _plain(value):
        raise AuditError(f"{path}, {TABLE}: {key} = {value!r} is neither text nor a number; give one.")
    text = str(value)
    if option.name in _FOLDERS or (option.name in _NAMES_OR_PATHS and text.startswith(".")):
        return str(path.parent / text) if text.strip() else text
    return text


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
