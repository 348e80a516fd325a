"""The former name of `audit.pytest_plugin`, for a conftest.py that still uses it (PYTEST_DONT_REWRITE)."""

from audit.pytest_plugin import AUDIT_FACTORY as AUDIT_FACTORY
from audit.pytest_plugin import STATE as STATE

pytest_plugins = ("audit.pytest_plugin",)
