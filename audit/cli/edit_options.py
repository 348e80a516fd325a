"""The options of `audit run` on a command that takes a plan of edits apart: one table for all of them.

@takes_a_plan
def curve(settings: AuditSettings, refine: ...) -> None: ...
"""

import re
from pathlib import Path

from audit.cli.options import ASKING, takes
from audit.settings.options import AuditSettings

# Those that say nothing about a plan, about what is asked, or about where things are kept, have no meaning here.
TAKEN = (
    *ASKING,
    "editor",
    "edits",
    "edit_mode",
    "edit_count",
    "edit_batch_size",
    "editor_config",
    "restraint",
    "margin",
    "reports",
    "no_store",
    "no_reuse",
)


takes_a_plan = takes(TAKEN)
# A command that only wants verdicts may have each as soon as it is certain.
judges_a_plan = takes((*TAKEN, "early_stop"))


def folder_for(what: str, settings: AuditSettings) -> Path:
    """Where the results of a command land: `reports/curve-memit-pocket-llama`."""
    return folder_of(settings, what, settings.editor.rsplit(":", 1)[-1], settings.model)


def folder_of(settings: AuditSettings, what: str, *names: str) -> Path:
    """The same for a command about other things: `reports/calibrate-pocket-llama`."""
    words = (re.sub(r"[^A-Za-z0-9._-]+", "-", name.rstrip("/").rsplit("/", 1)[-1]) for name in names)
    return settings.reports / "-".join([what, *words])
