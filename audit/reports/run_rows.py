"""Rows of a run besides its abilities: the header, the scores of the edits, and the checks of the weights."""

import math
from datetime import datetime
from typing import TYPE_CHECKING

from audit.editing.identity import EditSummary
from audit.reports.rows import RESTORED, UNCHANGED, EditScore, IntegrityRow, RunHeader
from audit.settings.options import AuditSettings

if TYPE_CHECKING:
    from audit.measures.edit_success import EditScores
    from audit.measures.integrity import Integrity


def run_header(
    wanted: AuditSettings, edits: EditSummary, *, data: str, started: datetime, loaded: tuple[str | None, str, str]
) -> RunHeader:
    """The header of a run with these settings.

    `data` is the name of the abilities' source; `loaded` the revision, device and dtype of the model.
    """
    revision, device, dtype = loaded
    return RunHeader(
        started=started.isoformat(timespec="seconds"),
        model=wanted.model,
        revision=revision,
        editor=edits.method,
        edits=edits.origin,
        plan=edits.plan,
        edit_count=edits.edit_count,
        device=device,
        dtype=dtype,
        seed=wanted.seed,
        limit=wanted.limit,
        restraint=edits.restraint,
        patch_from=edits.patch_from,
        checkpoint=edits.checkpoint,
        edit_rows=edits.rows,
        usable_rows=edits.usable_rows,
        missing_edits=edits.missing,
        data=data,
        protocol=wanted.protocol,
        shots=wanted.shots,
        chat_template=wanted.chat_template,
        reading=", ".join(f"{name}={one}" if name else one for name, one in wanted.reading.items()) or "auto",
        prompting=wanted.prompting,
    )


def edit_score_rows(scores: "EditScores") -> tuple[EditScore, ...]:
    """One row for each score of the edits that their requests have probes for; a value that is not finite is None."""
    return tuple(
        EditScore(
            measure, protocol, score.value if math.isfinite(score.value) else None, score.n, score.lower, score.upper
        )
        for measure, protocol, score in scores.entries()
        if score is not None
    )


def integrity_rows(integrity: "Integrity") -> tuple[IntegrityRow, ...]:
    """One row for each check of the edited weights."""
    return tuple(IntegrityRow(check.name, check.value, check.sound, check.sentence) for check in integrity.checks)


def unchanged_rows(unchanged: int, models: int, *, allowed: bool) -> tuple[IntegrityRow, ...]:
    """The check that the edited models differ from the base model; no row if all do.

    It is unsound if no model differs, unless that is allowed.
    """
    if not unchanged:
        return ()
    if unchanged < models:
        sentence = f"{unchanged} of {models} edited models equal the base model: their edits changed nothing."
        return (IntegrityRow(UNCHANGED, unchanged / models, None, sentence),)
    who = "The edited model equals" if models == 1 else f"All {models} edited models equal"
    sentence = f"{who} the base model: nothing was changed."
    return (IntegrityRow(UNCHANGED, 1.0, allowed, sentence),)


def restored_row(restored: bool) -> IntegrityRow:
    """The check that the weights after the run are those before it."""
    are = "are what they were before it, bit for bit" if restored else "differ: a patch was not taken back"
    return IntegrityRow(RESTORED, restored, restored, f"After the run the weights {are}.")
