"""The page of a workflow that looks at one model many times: sentences, tables and a figure, in the style of a run."""

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from audit.reports.html.page import page


@dataclass(frozen=True)
class FindingsTable:
    """A table with a name; columns of `texts`, by number from 0, are aligned left, as is the first."""

    name: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: Collection[int] = ()


@dataclass(frozen=True)
class Findings:
    """What a page says: sentences, the lines of the run, tables, notes below them, and a figure as SVG."""

    title: str
    sentences: Sequence[str] = ()
    lines: Sequence[str] = ()
    tables: Sequence[FindingsTable] = ()
    notes: Sequence[str] = ()
    svg: str = ""
    figure_text: str = ""  # what the figure shows, for readers who do not see it


def findings_html(findings: Findings) -> str:
    """The page; the figure is an image inside it, so nothing of the SVG takes part in the page."""
    return page("findings.html", findings=findings, figure=base64.b64encode(findings.svg.encode()).decode())
