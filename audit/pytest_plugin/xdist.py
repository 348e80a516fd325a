"""The audit under pytest-xdist: every worker audits its own tests, and the controller merges the results in one report.

The workers edit once: they share a store, and the first of them stores the patch for the others. With --no-store the
store is a temporary folder. Only the controller prints, and only it writes the report.
"""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from audit.errors import AuditError

if TYPE_CHECKING:
    from audit.reports.rows import RunReport

# The names of what the processes send each other; all values are text or booleans.
STORE, TROUBLE, REPORT, MEASURED, PART = (
    f"audit_{what}" for what in ("store", "trouble", "report", "measured", "part")
)


class Worker:
    """One of several processes that run tests. It prints nothing and sends its results to the controller."""

    def __init__(self, config: pytest.Config) -> None:
        given: dict[str, Any] = config.workerinput  # type: ignore[attr-defined]
        self._number = int("".join(filter(str.isdigit, given["workerid"])))  # gw0, gw1, ...
        self._count = int(given["workercount"])
        self._output: dict[str, Any] = config.workeroutput  # type: ignore[attr-defined]
        self.store = Path(given[STORE]) if STORE in given else None

    def limit_to_share(self, device: str) -> None:
        """Limit this worker to its share of the cores, and to its own GPU if there are several; `device` is as typed.

        Raises:
            AuditError: the workers would have to share one accelerator.
        """
        if self._count == 1:
            return
        if "OMP_NUM_THREADS" not in os.environ:
            import torch

            torch.set_num_threads(max(1, _cores() // self._count))
        if device == "cpu":
            return
        import torch

        if device == "auto" and not torch.cuda.is_available():
            return
        gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 1
        if gpus < 2:
            raise AuditError(
                f"-n {self._count} with --device {device}: the workers would share one device, which is no faster; "
                "run the audit without -n, or with --device cpu."
            )
        torch.cuda.set_device(self._number % gpus)  # the device that "cuda" means from here on

    def refuse(self, error: AuditError) -> None:
        """End the whole run with one sentence."""
        self._output[TROUBLE] = str(error)

    def attach(self, report: pytest.TestReport, found: "RunReport") -> None:
        """Attach the results of one test to its report, in case this process dies before `send`."""
        from audit.reports.merged import packed

        setattr(report, PART, packed(found))

    def send(self, report: "RunReport", measured: bool) -> None:
        """Send all results; `measured`: they contain a measurement."""
        from audit.reports.merged import packed

        self._output[REPORT], self._output[MEASURED] = packed(report), measured

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> bool | None:
        """Run nothing after a refusal."""
        return True if TROUBLE in self._output else None


class Controller:
    """The process that distributes the tests and collects the results."""

    def __init__(self, *, use_store: bool) -> None:
        self._use_store = use_store
        self._folder: str | None = None
        self._reports: list[str] = []
        self._parts: dict[str, list[str]] = {}  # by worker: results of single tests, until its whole report comes
        self._measured = False
        self._died: list[str] = []

    def report(self) -> "RunReport | None":
        """The merged results of all workers; None if nothing was measured.

        Raises:
            AuditError: the workers audited different models or edits.
        """
        texts = [*self._reports, *(part for parts in self._parts.values() for part in parts)]
        if not texts or not (self._measured or self._parts):
            return None
        from audit.reports.merged import merged, unpacked

        report = merged([unpacked(text) for text in texts])
        return replace(report, failed_tests=tuple(dict.fromkeys((*report.failed_tests, *self._died))))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give the workers a temporary store under --no-store."""
        if self._use_store:
            return
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="audit-run-")
        node.workerinput[STORE] = self._folder

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the results that came with the report of a test."""
        part = getattr(report, PART, None)
        if part is not None:
            self._parts.setdefault(report.worker_id, []).append(part)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """Count a test whose worker died as failed."""
        self._died.append(crashitem)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Take the report of a worker that ended, or note that it died."""
        if error is not None:
            self._died.append(f"worker {node.gateway.id}")
            return
        if TROUBLE in node.workeroutput:
            raise pytest.UsageError(node.workeroutput[TROUBLE])
        if REPORT in node.workeroutput:
            self._reports.append(node.workeroutput[REPORT])
            self._measured = self._measured or node.workeroutput[MEASURED]
            self._parts.pop(node.gateway.id, None)

    def pytest_unconfigure(self) -> None:
        """Remove the temporary store."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
