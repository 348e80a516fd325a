"""The report as the summary of a step of a GitHub job: `report.md`, shortened to what GitHub takes."""

from collections.abc import Sequence

from audit.reports.markdown import blocks, joined
from audit.reports.rows import RunReport

STEP_LIMIT = 1024 * 1024  # bytes of one step's summary; GitHub shows nothing of a longer one
HEADING = "## "
KEPT = HEADING + "Abilities"


def step_summary(report: RunReport, room: int = STEP_LIMIT) -> str:
    """The Markdown of the report in at most `room` bytes of UTF-8; "" where not even the note on what is left out fits.

    Whole sections are left out, the longest first, and what remains of the abilities is cut between two lines. The end
    of the text says so.
    """
    *parts, advice = blocks(report)
    sections = _sections(parts)
    whole = joined([*parts, advice])
    if size(whole) <= room:
        return whole
    left_out: list[str] = []
    while True:
        note = _note(left_out, cut=False)
        text = joined([*(block for section in sections for block in section), advice, note])
        spare = [section for section in sections[1:] if section[0] != KEPT]
        if size(text) <= room or not spare:
            break
        longest = max(spare, key=lambda section: size(joined(section)))
        sections.remove(longest)
        left_out.append(longest[0].removeprefix(HEADING))
    if size(text) <= room:
        return text
    end = "\n" + joined([advice, _note(left_out, cut=True)])
    kept = joined(block for section in sections for block in section)
    lines = encoded(kept)[: max(0, room - size(end))].rpartition(b"\n")[0]
    text = lines.decode() + "\n" + end if lines else end
    return text if size(text) <= room else ""


def encoded(text: str) -> bytes:
    """The text as files for GitHub hold it: UTF-8, with lone surrogates written as escapes."""
    return text.encode("utf-8", errors="backslashreplace")


def size(text: str) -> int:
    """The number of bytes of the text."""
    return len(encoded(text))


def _sections(parts: Sequence[str]) -> list[list[str]]:
    """The blocks above the first heading, and then each heading with its blocks."""
    sections: list[list[str]] = [[]]
    for block in parts:
        if block.startswith(HEADING):
            sections.append([])
        sections[-1].append(block)
    return sections


def _note(left_out: Sequence[str], *, cut: bool) -> str:
    named = f" Left out: {', '.join(left_out)}." if left_out else ""
    ends = " The abilities are cut off." if cut else ""
    return f"*Shortened, because GitHub takes 1 MiB for a step.{named}{ends} The folder of the run has all of it.*"
