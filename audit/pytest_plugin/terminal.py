"""What the plugin writes to pytest's terminal: progress during the tests, and a section after them."""

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from audit.progress import Watcher
    from audit.reports.terminal import Render


def progress_on(config: "pytest.Config") -> "Watcher | None":
    """Progress on the terminal, with pytest's capture suspended while it is drawn; None without a terminal."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.isatty or config.get_verbosity() < 0 or os.environ.get("TERM") == "dumb":
        return None
    from audit.reports.progress import TerminalProgress

    capture = config.pluginmanager.get_plugin("capturemanager")

    def suspend() -> AbstractContextManager[None]:
        return nullcontext() if capture is None else capture.global_and_fixture_disabled()

    writer = reporter._tw
    return TerminalProgress(
        writer._file, suspend=suspend, column=lambda: writer.width_of_current_line, color=writer.hasmarkup
    )


def show_section(
    reporter: "pytest.TerminalReporter", verbosity: int, title: str, header: Sequence[str], render: "Render"
) -> None:
    """Write the text of `render` under a title and `header`; below `verbosity` 0 the text alone."""
    from audit.reports.github import log_text

    if verbosity >= 0:
        reporter.ensure_newline()
        reporter.section(title)
        for line in header:
            reporter.write_line(log_text(line, os.environ))
    writer, encoding = reporter._tw, getattr(sys.stdout, "encoding", None) or "ascii"
    plain = not encoding.lower().startswith("utf")
    text = render(width=writer.fullwidth, color=writer.hasmarkup, verbosity=verbosity, ascii_only=plain)
    reporter.write_line(log_text(text, os.environ))
