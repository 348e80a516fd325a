"""What earlier runs tell about one that is planned: how many answers change, and how long answers take.

    earlier = EarlierRuns(settings, "pocket")
    earlier.seen("nli").row.right_to_wrong
    earlier.speed(units_of)                  # seconds a unit of work

Only runs of the same model that asked the same data in the same way count; those of the same editor come first.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from audit.edits.plan import DEFAULT_COUNT
from audit.errors import AuditError
from audit.reports.folder import read_report
from audit.reports.rows import AbilityRow, RunReport
from audit.settings.options import AuditSettings

READ_AT_MOST = 300  # reports, the newest first
DATED = re.compile(r"\d{8}-\d{6}-")  # a run's own folder; one that was renamed may come from another machine
CONTROLS = ("identity", "vandal")  # what they do to a model says nothing about another editor


@dataclass(frozen=True)
class Seen:
    """An earlier verdict on an ability; `folder` is that of its run."""

    row: AbilityRow
    folder: Path

    @property
    def run(self) -> str:
        """The name of the folder."""
        return self.folder.name

    @property
    def changes(self) -> float:
        """The share of items whose score changed; where none did, the smallest that would have been seen."""
        return max(self.row.right_to_wrong + self.row.wrong_to_right, 1) / self.row.n

    @cached_property
    def moves(self) -> tuple[float, ...]:
        """By how many points the scores moved that did; none where the items were not kept."""
        try:
            items = read_report(self.folder, with_items=True).items
        except AuditError:
            return ()
        asked = [item for item in items if item.ability == self.row.ability]
        return tuple(abs(item.base.score - item.edited_score) for item in asked if item.base.score != item.edited_score)


@dataclass(frozen=True)
class Speed:
    """Seconds that a unit of work took the untouched model and an edited one, in the runs of these names."""

    base: float
    edited: float
    runs: tuple[str, ...]


class EarlierRuns:
    """The reports under `settings.reports` that tell about a run with these settings; `data` names its source."""

    def __init__(self, settings: AuditSettings, data: str) -> None:
        self._settings = settings
        self._data = data

    def seen(self, ability: str) -> Seen | None:
        """The newest verdict on the ability: by the same editor and count of edits, or else by any that edits."""
        for run in self._by_likeness:
            same = run.header.method == self._method
            rows = [row for row in run.abilities if row.ability == ability and row.protocol == self._settings.protocol]
            if rows and (same or run.header.editor not in CONTROLS):
                return Seen(rows[0], Path(run.folder or ""))
        return None

    def speed(self, units_of: Callable[[str], float]) -> Speed | None:
        """How fast the newest runs on the same device answered; `units_of` is the work that an item of an ability is.

        Answers that were taken from the store took no time, so only runs count that gave all answers of a model.
        """
        base: float | None = None
        edited: float | None = None
        runs: dict[str, None] = {}
        for run in self._by_likeness:
            both = self._rates(run, units_of)
            if base is None and both[0] is not None:
                base = both[0]
                runs[_name(run)] = None
            if edited is None and both[1] is not None:
                edited = both[1]
                runs[_name(run)] = None
        if edited is None:
            return None
        return Speed(edited if base is None else base, edited, tuple(runs))

    def _rates(self, run: RunReport, units_of: Callable[[str], float]) -> tuple[float | None, float | None]:
        """Seconds a unit of the untouched and of an edited model; None where not all answers were given in this run."""
        wanted, asked, known = self._settings, sum(row.n for row in run.abilities), run.taken_over.answers_known
        alike = all(run.settings.get(name) == getattr(wanted, name) for name in ("device", "dtype", "reuse"))
        alike = alike and DATED.match(_name(run)) is not None
        models = run.taken_over.answers / asked - 1 if asked else 0
        base_known = bool(run.abilities) and all(row.base_from_store for row in run.abilities)
        if not alike or models < 1 or known not in (0, asked * base_known):
            return None, None
        try:
            units = sum(row.n * units_of(row.ability) for row in run.abilities)
        except AuditError:
            return None, None
        edited = run.seconds.get("edited answers", 0.0) / (units * models)
        base = run.seconds.get("base answers", 0.0) / units
        return (None if known else base or None), edited or None

    @property
    def _method(self) -> str:
        wanted = self._settings
        editor = wanted.edited or wanted.editor
        return f"{editor} + {wanted.restraint}" if wanted.restraint else editor

    @cached_property
    def _by_likeness(self) -> tuple[RunReport, ...]:
        """The most telling first: the same editor, as many edits, the newest."""
        count = self._settings.edit_count or DEFAULT_COUNT

        def likeness(run: RunReport) -> tuple[bool, bool, str]:
            return run.header.method == self._method, run.header.edit_count == count, run.header.started

        return tuple(sorted(self._alike(), key=likeness, reverse=True))

    def _alike(self) -> Iterator[RunReport]:
        """The reports of the same model, data and way of asking."""
        wanted, how = self._settings, ("model", "protocol", "shots", "chat_template")
        folders = sorted(self._settings.reports.glob("*/verdict.json"), reverse=True)  # names begin with the date
        for file in folders[:READ_AT_MOST]:
            try:
                run = read_report(file)
            except AuditError:  # of another version, or no report at all
                continue
            header = run.header
            same = all(getattr(header, name) == getattr(wanted, name) for name in how) and header.data == self._data
            if same and run.settings.get("revision") == wanted.revision and header.rescored is None:
                yield run


def _name(run: RunReport) -> str:
    return Path(run.folder or "").name
