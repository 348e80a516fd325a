"""What makes a plan the same plan, and a run the same run: everything that a patch depends on, by name."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audit.editors.contract import Editor
from audit.edits.plan import EditPlan
from audit.models.language_model import LanguageModel
from audit.settings.options import AuditSettings
from audit.store import PACKAGE, versions


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


def source_fingerprint() -> str:
    """sha256 over the package's own code that makes patches: whoever changes an editor gets none of its old ones."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for room in ("editors", "models", "edits") for path in (package / room).rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
