"""What a plan of edits is: the identity that a cache compares, and the summary that a report shows."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.edits.plan import EditPlan
from audit.settings.options import AuditSettings
from audit.store import PACKAGE, versions

if TYPE_CHECKING:
    from audit.editors.contract import Editor
    from audit.models.language_model import LanguageModel


@dataclass(frozen=True)
class EditSummary:
    """The changes of a model, for a report. `plan` is a sentence part: "10 edits, batch-single".

    `origin` is the source of the edit requests; `patch_from` the folder of a stored patch, if the run made no edits.
    `rows` are those of the file of edit requests (0: no file), `usable_rows` those that could be used, and `missing` is
    by how many the edits are fewer than were asked for.
    """

    method: str
    plan: str
    edit_count: int
    origin: str
    restraint: str | None = None
    patch_from: str | None = None
    checkpoint: bool = False  # whether `method` is a checkpoint that was edited elsewhere
    rows: int = 0
    usable_rows: int = 0
    missing: int = 0
    control: bool = False  # whether `method` is a control, which makes no edit


def plan_identity(
    lm: "LanguageModel",
    editor: "Editor",
    plan: EditPlan,
    wanted: AuditSettings,
    *,
    weights: str,
    tokenizer: str,
    edits: str,
) -> dict[str, Any]:
    """All that the patch of a plan depends on, as JSON data; plans with equal identities have equal patches.

    `weights`, `tokenizer` and `edits` are the fingerprints of the base model, of its tokenizer, and of the edit
    requests in their order.
    """
    settings = getattr(editor, "settings", None)
    return {
        "weights": weights,
        "tokenizer": tokenizer,
        "edit requests": edits,
        "edit plan": asdict(plan),
        "editor": wanted.editor,
        "editor settings": repr(settings(lm)) if settings else dict(wanted.editor_config),
        "seed": wanted.seed_of_edits,
        "restraint": wanted.restraint,
        "package version": versions().get(PACKAGE),
    }


def source_fingerprint() -> str:
    """sha256 over the code of this package that makes patches, so that no patch outlives a change of its editor."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for room in ("editors", "models", "edits") for path in (package / room).rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
