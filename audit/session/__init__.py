"""The audit itself: base answers, edits, edited answers, comparisons; the only place that knows the order of things.

Torch is imported when `Audit` is first asked for: what only reads saved answers does without.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.session.audit import Audit

__all__ = ["Audit"]


def __getattr__(name: str) -> Any:
    if name != "Audit":
        raise AttributeError(f"module 'audit.session' has no attribute {name!r}")
    from audit.session.audit import Audit

    return Audit
