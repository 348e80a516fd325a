"""`-p tests.pytest_plugin.on_rows`: asks the rows in $AUDIT_TEST_ROWS, not the pocket world's."""

import os
from pathlib import Path

import pytest

from audit.pytest_plugin import AUDIT_FACTORY


def pytest_configure(config: pytest.Config) -> None:
    from audit.abilities.data.sources import FolderSource

    rows = FolderSource(Path(os.environ["AUDIT_TEST_ROWS"]))

    def make(settings):  # type: ignore[no-untyped-def]
        from audit import Audit

        return Audit(settings, source=rows)

    config.stash[AUDIT_FACTORY] = make
