"""What stands above a run's numbers: what is audited and how."""

from datetime import datetime

from audit.editing.changes import Told
from audit.models.language_model import LanguageModel
from audit.reports.rows import RunHeader
from audit.settings.options import AuditSettings


def run_header(wanted: AuditSettings, told: Told, lm: LanguageModel, *, data: str, started: datetime) -> RunHeader:
    """The header of a run with these settings; `told` is what was done to the model, `data` what was asked from."""
    return RunHeader(
        started=started.isoformat(timespec="seconds"),
        model=wanted.model,
        revision=lm.revision,
        editor=told.method,
        edits=told.origin,
        plan=told.plan,
        edit_count=told.edit_count,
        device=str(lm.device),
        dtype=str(lm.dtype).removeprefix("torch."),
        seed=wanted.seed,
        limit=wanted.limit,
        restraint=told.restraint,
        patch_from=told.patch_from,
        checkpoint=told.checkpoint,
        data=data,
        protocol=wanted.protocol,
        shots=wanted.shots,
        chat_template=wanted.chat_template,
    )
