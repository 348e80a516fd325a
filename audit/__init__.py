"""Does editing a language model hurt what it could already do?

    from audit import Audit, summary

    report = Audit(model="pocket-gpt2", editor="memit").run()
    print(summary(report))

Nothing heavy is imported until a name is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.audit import Audit
    from audit.errors import AuditError
    from audit.reports.folder import read_report, write_report
    from audit.reports.markdown import markdown
    from audit.reports.rows import RunReport
    from audit.reports.terminal import summary
    from audit.settings.options import AuditSettings

__all__ = [
    "Audit",
    "AuditError",
    "AuditSettings",
    "RunReport",
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
