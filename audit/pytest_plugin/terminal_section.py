"""A summary in pytest's terminal: its width, its colors, its letters; at -q the summary's last line only."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pytest


class Render(Protocol):
    """From a report to text of a terminal's width."""

    def __call__(self, *, width: int, color: bool, verbosity: int, ascii_only: bool) -> str: ...


def show_section(
    reporter: "pytest.TerminalReporter", verbosity: int, title: str, header: Sequence[str], render: Render
) -> None:
    """Write `header` and what `render` gives under a title; below `verbosity` 0 neither title nor header."""
    if verbosity >= 0:
        reporter.ensure_newline()
        reporter.section(title)
        for line in header:
            reporter.write_line(line)
    writer, encoding = reporter._tw, getattr(sys.stdout, "encoding", None) or "ascii"
    plain = not encoding.lower().startswith("utf")
    text = render(width=writer.fullwidth, color=writer.hasmarkup, verbosity=verbosity, ascii_only=plain)
    reporter.write_line(text)
