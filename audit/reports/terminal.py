"""The summary of a run as text for a terminal.

If a table is too wide, columns are left out until it fits, the least needed first. The ability and its verdict stay.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from audit.measures.rates import LIKELIHOOD, NATS_PER_TOKEN
from audit.reports.item_sentences import item_sentences
from audit.reports.rows import EditScore, IntegrityRow, RunReport
from audit.reports.run_sentences import (
    caveats,
    flip_lines,
    harm_sentence,
    next_step,
    reuse_sentences,
    verdict_line,
)
from audit.reports.verdict_sentences import interval_column, kept_share, margin, points

# The edit scores that are always shown; -v and report.md show all.
HEADLINES = ("efficacy", "immediate efficacy", "generalization", "locality", "portability")
VERDICT_STYLE = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow"}


class Render(Protocol):
    """A report as text of at most `width` columns."""

    def __call__(self, *, width: int, color: bool, verbosity: int = 0, ascii_only: bool = False) -> str: ...


@dataclass(frozen=True)
class Column:
    """A heading and its cells. In a narrow terminal the column with the smallest `need` is left out first."""

    heading: str
    cells: Sequence[str | Text]
    need: int
    right: bool = True


def summary(
    report: RunReport, *, width: int = 100, color: bool = False, verbosity: int = 0, ascii_only: bool = False
) -> str:
    """The report as text of at most `width` columns; at `verbosity` below 0 the verdict line and caveats only."""
    console = text_console(width, color)
    if verbosity >= 0:
        lines = box.ASCII2 if ascii_only else box.SIMPLE_HEAD
        if report.abilities:
            console.print(fitting(console, _ability_columns(report, verbosity), lines), "")
        flips = flip_lines(report.abilities, verbosity)
        for sentence in flips:
            console.print(Text(sentence))
        if flips:
            console.print()
        scores = [score for score in report.edit_scores if verbosity > 0 or score.measure in HEADLINES]
        if scores:
            console.print(fitting(console, _edit_columns(scores, verbosity), lines), "")
        if report.collapse:
            console.print(Text(report.collapse, style=VERDICT_STYLE["FAIL"]), "")
        if any(alarm.harmed for alarm in report.alarms):
            console.print(Text(harm_sentence(report)), "")
        for line in _integrity(report.integrity, verbosity):
            console.print(line)
        for note in _notes(report):
            console.print(Text(note))
        if report.seconds:
            times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.seconds.items())
            console.print(Text(f"times: {times}"))
        if report.folder:
            console.print(Text(f"report: {report.folder}"), soft_wrap=True)
    outcome, rest = verdict_line(report).split(":", 1)
    console.print(Text.assemble((outcome, VERDICT_STYLE[outcome]), ":" + rest))
    if verbosity >= 0:
        console.print(Text(next_step(report), style="bold"))
    for caveat in caveats(report.header):
        console.print(Text(caveat, style=VERDICT_STYLE["INCONCLUSIVE"]), soft_wrap=True)
    return text_of(console)


def text_console(width: int, color: bool) -> Console:
    """A console that writes into memory, to be read with `text_of`."""
    return Console(
        file=io.StringIO(),
        width=max(width, 20),
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
        legacy_windows=False,
    )


def text_of(console: Console) -> str:
    """The text that was written, without trailing blanks."""
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def _ability_columns(report: RunReport, verbosity: int) -> list[Column]:
    rows, verdicts = report.abilities, [row.verdict for row in report.abilities]
    columns = [
        Column("ability", [row.label for row in rows], 100, right=False),
        *([Column("reading", [row.how for row in rows], 35, right=False)] if any(row.how for row in rows) else []),
        Column("base", [f"{verdict.base:.3f}" for verdict in verdicts], 60),
        Column("edited", [f"{verdict.edited:.3f}" for verdict in verdicts], 70),
        Column("drop", [points(verdict.drop) for verdict in verdicts], 90),
        Column(*interval_column(verdicts), 40),
        *([Column("kept", list(map(kept_share, verdicts)), 45)] if any(map(kept_share, verdicts)) else []),
        Column("margin", [margin(row.verdict, row.asked_margin) for row in rows], 30),
        Column("n", [row.item_count for row in rows], 50),
    ]
    if verbosity > 0:
        columns += [
            Column("lost", [str(verdict.right_to_wrong) for verdict in verdicts], 25),
            Column("won", [str(verdict.wrong_to_right) for verdict in verdicts], 20),
            Column("unparseable", [f"{row.base_unparseable:.3f} > {row.edited_unparseable:.3f}" for row in rows], 10),
        ]
    outcomes = [Text(row.outcome, style=VERDICT_STYLE[row.outcome]) for row in rows]
    return [*columns, Column("verdict", outcomes, 100, right=False)]


def _edit_columns(scores: Sequence[EditScore], verbosity: int) -> list[Column]:
    """One line per measure, one column per protocol; those by likelihood go first, and have their interval at -v."""
    measures = list(dict.fromkeys(score.measure for score in scores))
    protocols = list(dict.fromkeys(score.protocol for score in scores))
    found = {(score.measure, score.protocol): score for score in scores}
    counts = [max((s.n for s in scores if s.measure == measure), default=0) for measure in measures]
    needs = {NATS_PER_TOKEN: 20, LIKELIHOOD: 10}  # below that of every other column

    def cell(measure: str, protocol: str) -> str:
        score = found.get((measure, protocol))
        if score is None:
            return "-"
        with_interval = verbosity > 0 and protocol == NATS_PER_TOKEN and score.interval
        return f"{score.shown} {score.interval}" if with_interval else score.shown

    return [
        Column("the edit itself", measures, 100, right=False),
        *(
            Column(protocol, [cell(measure, protocol) for measure in measures], needs.get(protocol, 90 - place))
            for place, protocol in enumerate(protocols)
        ),
        Column("n", [str(count) for count in counts], 30),
    ]


def _integrity(rows: Sequence[IntegrityRow], verbosity: int) -> list[Text]:
    """A sentence for each unsound check, and one line for all others; at -v a sentence for every check."""
    style = {True: ("sound", "green"), False: ("UNSOUND", "bold red"), None: ("noted", "")}
    in_full = [row for row in rows if verbosity > 0 or row.sound is False]
    lines = [Text.assemble(style[row.sound], f"  {row.sentence}") for row in in_full]
    sound = [row for row in rows if row.sound and row not in in_full]
    if sound:
        brief = [row.check if isinstance(row.value, bool | None) else f"{row.check} {row.value:.3g}" for row in sound]
        lines.append(Text.assemble(("sound", "green"), f": {', '.join(brief)}"))
    noted = [row for row in rows if row.sound is None and row.value is not None and row not in in_full]
    if noted:
        lines.append(Text(f"noted: {', '.join(f'{row.check} {row.value:.3g}' for row in noted)}"))
    return lines


def _notes(report: RunReport) -> list[str]:
    notes = [
        *(f"not asked: {ability}: {reason}" for ability, reason in report.unasked.items()),
        *item_sentences(report.abilities),
        *reuse_sentences(report.reuse),
    ]
    if report.edit_notes:
        notes.append(f"{len(report.edit_notes)} edit requests with a note, the first: {report.edit_notes[0]}")
    if report.skipped:
        first = report.skipped[0]
        notes.append(
            f"skipped {len(report.skipped)} unusable edit requests, the first at {first.place} "
            f"({first.field}: {first.reason})"
        )
    return notes


def plain_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, space: int = 1) -> Table:
    """A table without lines, with `space` blanks between columns; the first column is left-aligned."""
    table = Table(box=None, pad_edge=False, padding=(0, space, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def fitting(console: Console, columns: list[Column], lines: box.Box) -> Table:
    """The widest table that fits; columns of need 100 are never left out."""
    unbounded = console.options.update(max_width=10_000)
    while True:
        table = Table(box=lines, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
        for column in columns:
            table.add_column(column.heading, justify="right" if column.right else "left", no_wrap=True)
        for number in range(len(columns[0].cells)):
            table.add_row(*(column.cells[number] for column in columns))
        least = min(columns, key=lambda column: column.need)
        if least.need == 100 or Measurement.get(console, unbounded, table).maximum <= console.width:
            return table
        columns = [column for column in columns if column is not least]
