"""`-p tests.plugin.on_rows`: the audit asks the rows in the folder $AUDIT_TEST_ROWS instead of the pocket world's."""

import os
from pathlib import Path

import pytest

from audit.plugin import AUDIT_FACTORY


def pytest_configure(config: pytest.Config) -> None:
    from audit.abilities.sources import FolderSource

    rows = FolderSource(Path(os.environ["AUDIT_TEST_ROWS"]))

    def make(settings):  # type: ignore[no-untyped-def]
        from audit import Audit

        return Audit(settings, source=rows)

    config.stash[AUDIT_FACTORY] = make
