"""The summary in a terminal: a pure function of the report, a width and a choice of colour.

Columns go, least needed first, until the table fits; the ability, its drop and its verdict always stay.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from audit.reports.advice import next_step
from audit.reports.claims import harm_sentence
from audit.reports.flips import flip_lines
from audit.reports.rows import AbilityRow, EditScore, IntegrityRow, RunReport

# The measures that are always shown; the others are for -v and the report.
HEADLINES = ("efficacy", "immediate efficacy", "generalization", "locality", "portability")
VERDICT_STYLE = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow"}


@dataclass(frozen=True)
class Column:
    """A heading and its cells. `need` orders what goes first when the terminal is narrow: the smallest."""

    heading: str
    cells: Sequence[str | Text]
    need: int
    right: bool = True


def summary(report: RunReport, *, width: int, color: bool, verbosity: int = 0, ascii_only: bool = False) -> str:
    """The report as text of at most `width` columns: all of it, or at `verbosity` below 0 the verdict line only."""
    console = text_console(width, color)
    if verbosity >= 0:
        lines = box.ASCII2 if ascii_only else box.SIMPLE_HEAD
        if report.abilities:
            console.print(fitting(console, _ability_columns(report, verbosity), lines), "")
        flips = flip_lines(report.abilities, verbosity)
        for told in flips:
            console.print(Text(told))
        if flips:
            console.print()
        scores = [score for score in report.edit_scores if verbosity > 0 or score.measure in HEADLINES]
        if scores:
            console.print(fitting(console, _edit_columns(scores), lines), "")
        if report.collapse:
            console.print(Text(report.collapse, style=VERDICT_STYLE["FAIL"]), "")
        if any(alarm.harmed for alarm in report.alarms):
            console.print(Text(harm_sentence(report)), "")
        for line in _integrity(report.integrity, verbosity):
            console.print(line)
        for note in _notes(report):
            console.print(Text(note))
        if report.seconds:
            spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.seconds.items())
            console.print(Text(f"times: {spent}"))
        if report.folder:
            console.print(Text(f"report: {report.folder}"), soft_wrap=True)
    outcome, rest = report.verdict_line.split(":", 1)
    console.print(Text.assemble((outcome, VERDICT_STYLE[outcome]), ":" + rest))
    if verbosity >= 0:
        console.print(Text(next_step(report), style="bold"))
    return text_of(console)


def text_console(width: int, color: bool) -> Console:
    """A console that writes into memory; `text_of` gives what it wrote."""
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
    """The lines that were written, without blanks at their ends."""
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def points(value: float) -> str:
    """A difference in score points with three decimals; a negative drop is a gain; '-0.000' is never shown."""
    text = f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text


def interval(row: AbilityRow) -> str:
    """The limits of the drop, rounded outwards: what is printed is never narrower than what was found."""
    lower = math.floor(round(row.lower * 1000, 6)) / 1000
    upper = math.ceil(round(row.upper * 1000, 6)) / 1000
    return f"[{points(lower)}, {points(upper)}]"


def margin(row: AbilityRow) -> str:
    """The margin in score points; of a share to be retained, the points that it comes to at this base score."""
    return f"{row.margin:.3f}" + (f" ({row.asked_margin})" if row.asked_margin.endswith("%") else "")


def _ability_columns(report: RunReport, verbosity: int) -> list[Column]:
    rows = report.abilities
    columns = [
        Column("ability", [row.named for row in rows], 100, right=False),
        Column("base", [f"{row.base:.3f}" for row in rows], 60),
        Column("edited", [f"{row.edited:.3f}" for row in rows], 70),
        Column("drop", [points(row.drop) for row in rows], 90),
        Column("95 % interval", [interval(row) for row in rows], 40),
        Column("margin", [margin(row) for row in rows], 30),
        Column("n", [row.asked for row in rows], 50),
    ]
    if verbosity > 0:
        columns += [
            Column("lost", [str(row.right_to_wrong) for row in rows], 25),
            Column("won", [str(row.wrong_to_right) for row in rows], 20),
            Column("unparseable", [f"{row.base_unparseable:.3f} > {row.edited_unparseable:.3f}" for row in rows], 10),
        ]
    verdicts = [Text(row.outcome, style=VERDICT_STYLE[row.outcome]) for row in rows]
    return [*columns, Column("verdict", verdicts, 100, right=False)]


def _edit_columns(scores: Sequence[EditScore]) -> list[Column]:
    """One line a measure, one column a protocol."""
    measures = list(dict.fromkeys(score.measure for score in scores))
    protocols = list(dict.fromkeys(score.protocol for score in scores))
    found = {(score.measure, score.protocol): score for score in scores}
    counts = [max((s.n for s in scores if s.measure == measure), default=0) for measure in measures]

    def cell(measure: str, protocol: str) -> str:
        score = found.get((measure, protocol))
        return "-" if score is None or score.value is None else f"{score.value:.3f}"

    return [
        Column("the edit itself", measures, 100, right=False),
        *(
            Column(protocol, [cell(measure, protocol) for measure in measures], 90 - place)
            for place, protocol in enumerate(protocols)
        ),
        Column("n", [str(count) for count in counts], 30),
    ]


def _integrity(rows: Sequence[IntegrityRow], verbosity: int) -> list[Text]:
    """What is unsound in its own words; what is sound in one line, or in its own words at -v; so what has no
    limit."""
    style = {True: ("sound", "green"), False: ("UNSOUND", "bold red"), None: ("noted", "")}
    told = [row for row in rows if verbosity > 0 or row.sound is False]
    lines = [Text.assemble(style[row.sound], f"  {row.sentence}") for row in told]
    sound = [row for row in rows if row.sound and row not in told]
    if sound:
        brief = [row.check if isinstance(row.value, bool | None) else f"{row.check} {row.value:.3g}" for row in sound]
        lines.append(Text.assemble(("sound", "green"), f": {', '.join(brief)}"))
    noted = [row for row in rows if row.sound is None and row.value is not None and row not in told]
    if noted:
        lines.append(Text(f"noted: {', '.join(f'{row.check} {row.value:.3g}' for row in noted)}"))
    return lines


def _notes(report: RunReport) -> list[str]:
    notes = [
        *(f"not asked: {ability}: {reason}" for ability, reason in report.unasked.items()),
        *report.taken_over.sentences(),
    ]
    if report.skipped:
        first = report.skipped[0]
        notes.append(
            f"unusable rows of the edits, skipped: {len(report.skipped)}, the first at {first.file}:{first.line} "
            f"({first.field}: {first.reason})"
        )
    return notes


def fitting(console: Console, columns: list[Column], lines: box.Box) -> Table:
    """The widest table that fits: columns of least need go first, never those of need 100."""
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
