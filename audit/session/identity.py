"""What makes a plan the same plan, and a run the same run: everything that a patch depends on, by name."""

import importlib.metadata
from dataclasses import asdict
from typing import Any

from audit.editors.contract import Editor
from audit.edits.plan import EditPlan
from audit.models.language_model import LanguageModel
from audit.options import AuditSettings

PACKAGE = "model-edit-audit"
PACKAGES = ("torch", "transformers", "numpy", "scipy", "rouge-score", PACKAGE)


def plan_identity(
    lm: LanguageModel,
    editor: Editor,
    plan: EditPlan,
    wanted: AuditSettings,
    *,
    weights: str,
    tokenizer: str,
    edits: str,
) -> dict[str, Any]:
    """All that the patch of a plan depends on, as JSON holds it; two plans with equal ones have equal patches.

    `weights`, `tokenizer` and `edits` are fingerprints: of the untouched model, of its tokenizer, and of the requests
    in their order.
    """
    settings = getattr(editor, "settings", None)
    return {
        "weights": weights,
        "tokenizer": tokenizer,
        "edit requests": edits,
        "edit plan": asdict(plan),
        "editor": wanted.editor,
        "editor settings": repr(settings(lm)) if settings else dict(wanted.editor_config),
        "seed": wanted.seed,
        "restraint": wanted.restraint,
        "package version": versions().get(PACKAGE),
    }


def versions() -> dict[str, str]:
    """The versions of the packages that decide numbers; a clone that was not installed has none of its own."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
