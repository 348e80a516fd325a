"""The report of a preflight: the drops and margins that a run could detect and certify, and its time; data and table.

A drop is seen, and a margin is certified, with probability `POWER` if the assumptions hold. All numbers are estimates.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.text import Text

from audit.reports.markdown import table_lines
from audit.reports.rows import RunHeader
from audit.reports.run_sentences import header_lines
from audit.reports.terminal import Column, fitting, text_console, text_of

POWER = 0.8
CERTIFIABLE, TOO_SMALL, DEPENDS, AT_THE_FLOOR = "can be certified", "too small", "depends on the base", "at the floor"
STYLES = {CERTIFIABLE: "bold green", TOO_SMALL: "bold red", DEPENDS: "bold yellow", AT_THE_FLOOR: "bold yellow"}


@dataclass(frozen=True)
class AbilityPreflight:
    """The preflight of one ability.

    changes            share of items whose score is expected to change; `changes_from` is the folder name of the past
                       run that it comes from, None if it is assumed
    smallest_drop      smallest drop that would be seen; None if none would
    smallest_margin    smallest margin that would be certified; None if none would
    margin             in score points; None if it is a share to keep of an unknown base score, and then
    needed_base        is the smallest base score at which it can be certified;
    above_floor        above a floor that only the run itself measures
    available          if the margin is too small: the largest --limit that the data can fill,
    smallest_with_all  the smallest margin at that limit,
    limit_enough       and the limit that would be enough; None if no affordable one is
    read, written      expected tokens of the answers of one model; `written_at_most` if every answer reaches its limit
    seconds            expected time of the answers of all models; None if unknown
    """

    ability: str
    protocol: str
    items: int
    clusters: int
    changes: float
    smallest_drop: float | None
    smallest_margin: float | None
    margin: float | None
    asked_margin: str
    available: int | None = None
    limit_enough: int | None = None
    smallest_with_all: float | None = None
    needed_base: float | None = None
    above_floor: bool = False
    changes_from: str | None = None
    at_the_floor: bool = False  # in the past run the base model was not clearly above its floor
    read: float = 0.0
    written: float = 0.0
    written_at_most: float = 0.0
    seconds: float | None = None

    @property
    def label(self) -> str:
        return self.ability if self.protocol == "standard" else f"{self.ability} ({self.protocol})"

    @property
    def prospect(self) -> str:
        """The prospect of certifying the margin, in a few words."""
        if self.at_the_floor:
            return AT_THE_FLOOR
        if self.margin is None and self.needed_base is not None:
            return DEPENDS
        fits = self.margin is not None and self.smallest_margin is not None and self.smallest_margin <= self.margin
        return CERTIFIABLE if fits else TOO_SMALL

    @property
    def remedy(self) -> str:
        """What would make a margin that is too small certifiable, in a few words; "" for other margins."""
        if self.prospect != TOO_SMALL:
            return ""
        if self.limit_enough is None:
            return "a larger margin"
        return f"--limit {self.limit_enough}" if self._has_enough else f"more data: {self.limit_enough}"

    @property
    def _has_enough(self) -> bool:
        return self.limit_enough is not None and self.available is not None and self.limit_enough <= self.available

    @property
    def sentence(self) -> str:
        """The prospect of certifying the margin, with numbers."""
        asked = f"{self.label}: a margin of {self.asked_margin}"
        if self.margin is not None and f"{self.margin:g}" != self.asked_margin:
            asked += f" ({self.margin:.3f})"
        seen = "no drop would be seen"
        if self.smallest_drop is not None:
            seen = f"a drop of {rounded_up(self.smallest_drop)} would be seen"
        smallest = rounded_up(self.smallest_margin)
        if self.at_the_floor:
            return (
                f"{asked} cannot be judged if the base model is not clearly above its floor, as it was not in "
                f"{self.changes_from}."
            )
        if self.prospect == DEPENDS:
            least = rounded_up(self.needed_base) + (" above its floor" if self.above_floor else "")
            return f"{asked} can be certified if the base score is at least {least}; {seen}."
        if self.prospect == CERTIFIABLE:
            return f"{asked} can be certified (smallest: {smallest}); {seen}."
        return f"{asked} is too small for {self.items} items, which certify {smallest}: {self._way_out()}."

    def _way_out(self) -> str:
        enough = "no affordable number of items is enough"
        if self.limit_enough is not None:
            enough = f"about --limit {self.limit_enough} is enough"
        if self._has_enough:
            return f"{enough}, and the data has {self.available}"
        if self.smallest_with_all == self.smallest_margin:
            return f"{enough}, but the data has only {self.available}"
        return f"{enough}; the data has {self.available}, which certify {rounded_up(self.smallest_with_all)}"


@dataclass(frozen=True)
class PreflightReport:
    """The preflight of a whole run. `timing` says how the seconds were estimated, or why they are unknown."""

    header: RunHeader
    abilities: tuple[AbilityPreflight, ...] = ()
    unasked: Mapping[str, str] = field(default_factory=dict)  # by ability, why its items cannot be read
    timing: str = ""
    early_stop: bool = False

    @property
    def seconds(self) -> float | None:
        """The time of all answers, of base and edited models; None if that of an ability is unknown."""
        known = [row.seconds for row in self.abilities if row.seconds is not None]
        return sum(known) if known and len(known) == len(self.abilities) else None

    @property
    def verdict_line(self) -> str:
        """One line: how many margins can be certified, and how long it would take."""
        rows = self.abilities
        certifiable = sum(row.prospect == CERTIFIABLE for row in rows)
        time = "" if self.seconds is None else f", about {in_minutes(self.seconds)} minutes of answers"
        model = f"{self.header.method} on {self.header.model}"
        missing = f", cannot be asked: {', '.join(self.unasked)}" if self.unasked else ""
        margins = f"{certifiable} of {len(rows)} margin{'' if len(rows) == 1 else 's'} can be certified"
        return f"PREFLIGHT: {model}: {margins}{time}{missing}"

    def _repr_markdown_(self) -> str:
        """The table and notes, as a notebook shows them."""
        return preflight_markdown(self)

    def notes(self) -> list[str]:
        """A sentence for every margin that cannot be certified, and notes on the columns and assumptions."""
        notes = [row.sentence for row in self.abilities if row.prospect != CERTIFIABLE]
        notes += [f"{ability} cannot be asked: {reason}" for ability, reason in self.unasked.items()]
        if self.abilities:
            notes.append(
                f"sees, certifies: the smallest drop that would be seen, and the smallest margin that would be "
                f"certified if nothing gets worse, each with {100 * POWER:g} % probability."
            )
            notes += self._assumptions()
        if self.timing:
            notes.append(self.timing)
        if self.early_stop and self.abilities:
            notes.append("--early-stop may end an ability before its last item, so the minutes are an upper limit.")
        return notes

    def _assumptions(self) -> list[str]:
        runs: dict[str | None, list[str]] = {}
        for row in self.abilities:
            runs.setdefault(row.changes_from, []).append(row.label)

        def of(names: Sequence[str]) -> str:
            return "" if len(runs) == 1 else f" ({', '.join(names)})"

        return [
            f"changes: as many as in {run}{of(names)}."
            if run is not None
            else f"changes: assumed, because there is no past run to estimate them from{of(names)}."
            for run, names in runs.items()
        ]


def preflight_summary(
    report: PreflightReport, *, width: int, color: bool, verbosity: int = 0, ascii_only: bool = False
) -> str:
    """The report as text of at most `width` columns; one line at `verbosity` below 0."""
    console = text_console(width, color)
    if verbosity >= 0:
        if report.abilities:
            lines = box.ASCII2 if ascii_only else box.SIMPLE_HEAD
            console.print(fitting(console, _columns(report.abilities), lines), "")
        for note in report.notes():
            console.print(Text(note))
    word, rest = report.verdict_line.split(":", 1)
    console.print(Text.assemble((word, "bold"), ":" + rest))
    return text_of(console)


def preflight_markdown(report: PreflightReport) -> str:
    """The report as Markdown, for a pull request."""
    columns = _columns(report.abilities)
    lines = [f"# {report.verdict_line}", "", *header_lines(report.header, "- ")]
    if report.abilities:
        rows = zip(*(map(str, column.cells) for column in columns), strict=True)
        texts = [number for number, column in enumerate(columns) if not column.right]
        lines += ["", *table_lines([column.heading for column in columns], rows, texts=texts)]
    return "\n".join([*lines, "", *(f"- {note}" for note in report.notes())]) + "\n"


def rounded_up(value: float | None) -> str:
    """Rounded up to three decimals; "none" for None."""
    return "none" if value is None else f"{math.ceil(round(value * 1000, 6)) / 1000:.3f}"


def in_minutes(seconds: float | None) -> str:
    """Minutes with two or three digits: "0.12", "3.4", "120"; "?" for None."""
    if seconds is None:
        return "?"
    minutes = seconds / 60
    if minutes < 0.01:
        return "<0.01"
    return f"{minutes:.{2 if minutes < 1 else 1 if minutes < 10 else 0}f}"


def _columns(rows: Sequence[AbilityPreflight]) -> list[Column]:
    changes = [f"{100 * row.changes:.1f} % {'assumed' if row.changes_from is None else 'seen'}" for row in rows]
    columns = [
        Column("ability", [row.label for row in rows], 100, right=False),
        Column("items", [str(row.items) for row in rows], 70),
        Column("clusters", [str(row.clusters) for row in rows], 10),
        Column("minutes", [in_minutes(row.seconds) for row in rows], 50),
        Column("changes", changes, 20),
        Column("sees", [rounded_up(row.smallest_drop) for row in rows], 40),
        Column("certifies", [rounded_up(row.smallest_margin) for row in rows], 80),
        Column("margin", [row.asked_margin for row in rows], 60),
        Column("prospect", [Text(row.prospect, style=STYLES[row.prospect]) for row in rows], 100, right=False),
    ]
    if any(row.remedy for row in rows):
        columns.append(Column("remedy", [row.remedy for row in rows], 30, right=False))
    return columns
