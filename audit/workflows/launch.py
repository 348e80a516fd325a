"""An audit on as many processes as a launcher started: one, as a rule."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from audit.answering.crew import crew_here, passing_folder
from audit.audit import Audit
from audit.progress import Watcher
from audit.settings.options import AuditSettings


@contextmanager
def audit_here(settings: AuditSettings, watcher: Watcher | None = None) -> Iterator[Audit]:
    """This process's part in the audit; only the first process of a crew is watched.

    Raises:
        AuditError: the settings do not suit the processes that were started.
    """
    with ExitStack() as stack:
        crew, device = stack.enter_context(crew_here(settings.device))
        audit = crew.together(
            lambda: Audit(replace(settings, device=device), watcher=watcher if crew.first else None, crew=crew)
        )
        if crew.size > 1 and not settings.use_store:
            audit.share_folder(Path(stack.enter_context(passing_folder(crew))))
        yield audit
