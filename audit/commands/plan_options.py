"""The options of `audit run` on a command that takes a plan of edits apart: one table for all of them.

@takes_a_plan
def curve(settings: AuditSettings, refine: ...) -> None: ...
"""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from audit.commands.typed import as_typed, settings_of
from audit.options import OPTIONS, AuditSettings, Option

# Those that say nothing about a plan, about what is asked, or about where things are kept, have no meaning here.
TAKEN = (
    "editor",
    "model",
    "revision",
    "edits",
    "edit_mode",
    "edit_count",
    "edit_batch_size",
    "editor_config",
    "restraint",
    "margin",
    "data",
    "protocol",
    "shots",
    "chat_template",
    "limit",
    "seed",
    "device",
    "dtype",
    "reports",
    "store",
    "no_store",
    "no_reuse",
)


def takes_a_plan(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of a plan behind its own; its `settings` are made from them."""
    shared = [_parameter(option) for option in OPTIONS if option.name in TAKEN]
    own = [one for one in inspect.signature(command).parameters.values() if one.name != "settings"]

    def told(**given: Any) -> None:
        settings = settings_of({option.name: given.pop(option.name) for option in shared})
        command(settings, **given)

    told.__name__, told.__doc__ = command.__name__, command.__doc__
    parameters = [*own, *shared]  # typer reads the options off the signature
    told.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    told.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return told


def folder_for(what: str, settings: AuditSettings) -> Path:
    """Where the results of a command land: `reports/curve-memit-pocket-llama`."""
    words = (settings.editor.rsplit(":", 1)[-1], settings.model.rstrip("/").rsplit("/", 1)[-1])
    return settings.reports / "-".join([what, *(re.sub(r"[^A-Za-z0-9._-]+", "-", word) for word in words)])


def _parameter(option: Option) -> inspect.Parameter:
    kind: Any = bool if option.switch else list[str] | None if option.repeatable else str | None
    default = False if option.switch else None
    annotation = Annotated[kind, as_typed(option.name)]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
