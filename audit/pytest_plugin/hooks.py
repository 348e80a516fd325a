"""The hook of the audit that a conftest.py can have (PYTEST_DONT_REWRITE)."""

from collections.abc import Sequence
from typing import Any


def pytest_audit_abilities() -> Sequence[Any]:
    """Abilities that suites may name: objects, or texts as for --ability.

    def pytest_audit_abilities():
        return [Triage(language="en")]
    """
    return ()
