"""Edit plans over a tiny model, carried out whole or with an interruption, for the tests beside this file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.editing.plan_folder import PlanFolder
from audit.editing.steps import EditedModel, RestrainedEditor, carry_out
from audit.editors.contract import Editor
from audit.editors.restraints import load_restraint
from audit.edits.plan import EditPlan
from audit.edits.requests import EditRequest
from audit.measures.edit_probes import EditProbe, EditReply
from audit.models.fingerprints import weights_fingerprint
from audit.models.language_model import LanguageModel
from audit.models.patches import Patch
from tests.small_audit import NAMES

REQUESTS = tuple(
    EditRequest(f"case-{number}", NAMES[number % 4], "{} lives in the city of", ("Velden", "Calton")[number % 2])
    for number in range(6)
)
PLANS = {
    "one by one": EditPlan("instance-sequential", 6, 1),
    "in batches": EditPlan("batch-sequential", 6, 2),
    "each alone": EditPlan("instance-single", 6, 1),
}


class StoppedError(Exception):
    """An interruption: Ctrl-C, or a machine that is switched off."""


def interrupted_at(editor: Editor, edit: int) -> Editor:
    """The same editor, which raises in its edit number `edit`."""
    whole = editor.edit

    def breaking(lm: LanguageModel, requests: Sequence[EditRequest], progress: Any = None) -> Patch:
        if editor.edits == edit - 1:  # type: ignore[attr-defined]
            raise StoppedError
        return whole(lm, requests, progress)

    editor.edit = breaking  # type: ignore[method-assign]
    return editor


def no_progress(done: int, total: int) -> None:
    pass


def apply(
    lm: LanguageModel,
    editor: Editor,
    plan: EditPlan,
    folder: PlanFolder | None = None,
    *,
    restraint: str | None = None,
    progress: Callable[[int, int], None] = no_progress,
) -> tuple[EditedModel, ...]:
    held = None if restraint is None else load_restraint(restraint)
    before = weights_fingerprint(lm)
    try:
        return carry_out(RestrainedEditor(lm, editor, held, before), plan, REQUESTS, progress, folder=folder)
    finally:
        assert weights_fingerprint(lm) == before
        assert not lm.attached


def the_folder(lm: LanguageModel, root: Path, *, in_store: bool = True, **more: Any) -> PlanFolder:
    return PlanFolder(root, {"weights": weights_fingerprint(lm), **more}, in_store=in_store)


def said(models: Sequence[EditedModel]) -> list[tuple[str, Mapping[EditProbe, EditReply]]]:
    return [(model.patch.fingerprint, model.immediate) for model in models]


def steps_of(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "steps").glob("*"))


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != ".lock"}
