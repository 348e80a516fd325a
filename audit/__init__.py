"""Does editing a language model hurt what it could already do?

    from audit import Audit, summary

    report = Audit(model="pocket-gpt2", editor="memit").run()
    print(summary(report))

Nothing heavy is imported until a name is used. OpenMP reads its settings when torch is imported, which is after this
module: on a shared machine threads that spin while they wait would take the cores that other processes need, so they
soon sleep instead, in this process and in those that it starts, unless the environment says how to wait.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.audit import Audit
    from audit.errors import AuditError
    from audit.reports.folder import read_report, write_report
    from audit.reports.markdown import markdown
    from audit.reports.rows import RunReport
    from audit.reports.terminal import summary
    from audit.settings.options import AuditSettings
    from audit.verdicts.comparison import compare

# libgomp reads the second: a thousand turns are some microseconds. Threads that sleep at once lose a fifth on a quiet
# machine (benchmarks/shared_machine.py). libiomp and libomp read the third, in milliseconds.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
if os.environ.keys().isdisjoint((*_WAITING, "KMP_LIBRARY")):
    os.environ.update(_WAITING)

__all__ = [
    "Audit",
    "AuditError",
    "AuditSettings",
    "RunReport",
    "compare",
    "markdown",
    "read_report",
    "summary",
    "write_report",
]

_HOMES = {
    "Audit": "audit.audit",
    "AuditError": "audit.errors",
    "AuditSettings": "audit.settings.options",
    "RunReport": "audit.reports.rows",
    "compare": "audit.verdicts.comparison",
    "markdown": "audit.reports.markdown",
    "read_report": "audit.reports.folder",
    "summary": "audit.reports.terminal",
    "write_report": "audit.reports.folder",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'audit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
