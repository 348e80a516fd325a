"""The state of one pytest run, shared by hooks, fixtures and the preflight mode, and how the run ends on an error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from audit.errors import AuditError
from audit.pytest_plugin.xdist import Controller, Worker
from audit.settings.options import AuditSettings

if TYPE_CHECKING:
    from audit.audit import Audit
    from audit.reports.rows import AbilityRow, RunReport


@dataclass
class RunState:
    """What the plugin knows about one pytest run. `worker` and `controller` exist under pytest-xdist only."""

    settings: AuditSettings
    command: str
    audit: "Audit | None" = None
    rows: "dict[str, AbilityRow]" = field(default_factory=dict)  # by node id: the last verdict of a test
    unasked: set[str] = field(default_factory=set)  # node ids of tests whose ability could not be asked
    failed: list[str] = field(default_factory=list)  # node ids of audit tests that failed for another reason
    report: "RunReport | None" = None
    trouble: str = ""  # why no report could be written
    job_lines: list[str] = field(default_factory=list)  # for the log of a job of continuous integration
    worker: Worker | None = None  # this process runs some of the tests
    controller: Controller | None = None  # this process collects the results of the workers
    fresh: dict[str, Any] = field(default_factory=dict)  # results of the running test, by field of `RunReport`

    def add(self, part: str, *rows: Any) -> None:
        """Record results of the running test."""
        self.fresh[part] = (*self.fresh.get(part, ()), *rows)

    @contextmanager
    def usage_error(self) -> Iterator[None]:
        """Before the tests: an `AuditError` ends the run with one sentence and exit code 4, in a worker later."""
        try:
            yield
        except AuditError as error:
            if self.worker is None:
                raise pytest.UsageError(str(error)) from None
            self.worker.refuse(error)

    @contextmanager
    def clean_exit(self) -> Iterator[None]:
        """In a test: an `AuditError` ends the whole run with one sentence and exit code 4; all tests would raise it."""
        try:
            yield
        except AuditError as error:
            if self.worker is not None:
                self.worker.refuse(error)
            pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)


STATE = pytest.StashKey[RunState]()
#: A conftest may store its own `settings -> Audit` here, for example to audit on other data (`Audit(source=...)`).
AUDIT_FACTORY = pytest.StashKey[Callable[[AuditSettings], "Audit"]]()
