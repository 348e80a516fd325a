"""Past runs as evidence for a preflight: how many answers change, and how long answers take.

    past = PastRuns(settings, "pocket")
    past.verdict("nli").row.verdict.right_to_wrong
    past.speed(units_of)                  # seconds per unit of work

Only runs with the same model, data and way of asking are used; those with the same editor come first.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from audit.editors import CONTROLS
from audit.edits.plan import DEFAULT_COUNT
from audit.errors import AuditError
from audit.reports.folder import read_report
from audit.reports.rows import AbilityRow, RunReport
from audit.settings.declaration import Effect
from audit.settings.options import AuditSettings
from audit.verdicts.bootstrap import as_ratios
from audit.verdicts.power import observed_change
from audit.workflows.rescore import saved_answers

READ_AT_MOST = 300  # reports, the newest first
DATED = re.compile(r"\d{8}-\d{6}-")  # a folder that a run made here; a renamed one may come from another machine
DEFAULTS = AuditSettings()


@dataclass(frozen=True)
class PastVerdict:
    """A verdict on one ability from a past run; `folder` is the folder of that run."""

    row: AbilityRow
    folder: Path

    @property
    def run(self) -> str:
        """The name of the run's folder."""
        return self.folder.name

    @property
    def changes(self) -> float:
        """The share of items whose score changed, at least one item: none may have changed by chance."""
        return max(self.row.verdict.right_to_wrong + self.row.verdict.wrong_to_right, 1) / self.row.verdict.n

    @cached_property
    def moves(self) -> tuple[float, ...]:
        """The sizes of all changes of a score, in points; empty if the run did not keep its items."""
        items = () if self._report is None else self._report.items
        sizes = [abs(item.base.score - item.edited_score) for item in items if item.ability == self.row.ability]
        return tuple(size for size in sizes if size)

    @cached_property
    def corpus_moves(self) -> tuple[float, ...]:
        """The same of a corpus metric, as `observed_change` gives them: the changed items' shares of the drop.

        The counts of the items come from their saved answers, parsed and scored again. Empty if the run did not keep
        these, or if an older version of the audit saved too little of them.
        """
        try:
            scores = None if self._report is None else saved_answers(self._report, self.row).scores
        except AuditError:
            return ()
        if scores is None or scores.base_counts is None or scores.edited_counts is None:
            return ()
        tables = (as_ratios(np.asarray(counts, dtype=float)) for counts in (scores.base_counts, scores.edited_counts))
        return observed_change(*tables)

    @cached_property
    def _report(self) -> RunReport | None:
        """The report with its items; None if it cannot be read."""
        try:
            return read_report(self.folder, with_items=True)
        except AuditError:
            return None


@dataclass(frozen=True)
class Speed:
    """Seconds per unit of work for the base model and for an edited one, measured in the named runs."""

    base: float
    edited: float
    runs: tuple[str, ...]


class PastRuns:
    """The reports under `settings.reports` of runs like one with these settings; `data` is the name of its source."""

    def __init__(self, settings: AuditSettings, data: str) -> None:
        self._settings = settings
        self._data = data

    def verdict(self, ability: str) -> PastVerdict | None:
        """The newest verdict on the ability with the same editor and edit count, or with any editor but a control."""
        for run in self._by_likeness:
            same = run.header.method == self._method
            rows = [row for row in run.abilities if row.ability == ability and self._same(run, row)]
            if rows and (same or run.header.editor not in CONTROLS):
                return PastVerdict(rows[0], Path(run.folder or ""))
        return None

    def _same(self, run: RunReport, row: AbilityRow) -> bool:
        """Whether the row of a run is about what the ability is now, under the same protocol."""
        definitions = self._settings.abilities.definitions([row.ability])
        unchanged = all(run.fingerprints.get(name) == value for name, value in definitions.items())
        return unchanged and (bool(definitions) or row.protocol == self._settings.protocol)

    def speed(self, units_of: Callable[[str], float]) -> Speed | None:
        """The speed of the newest runs on the same device; `units_of` gives the work of one item of an ability.

        Answers from the store took no time, so only runs that computed all answers of a model are used.
        """
        rates = [(*self._rates(run, units_of), _name(run)) for run in self._by_likeness]
        edited = next(((rate, name) for _, rate, name in rates if rate is not None), None)
        if edited is None:
            return None
        base = next(((rate, name) for rate, _, name in rates if rate is not None), edited)
        return Speed(base[0], edited[0], tuple(dict.fromkeys((base[1], edited[1]))))

    def _rates(self, run: RunReport, units_of: Callable[[str], float]) -> tuple[float | None, float | None]:
        """Seconds per unit of the base and of an edited model; None unless this run computed all of its answers."""
        asked, known = sum(row.verdict.n for row in run.abilities), run.reuse.answers_known
        alike = self._matches(run, Effect.COMPUTATION) and DATED.match(_name(run)) is not None
        models = run.reuse.answers / asked - 1 if asked else 0
        base_known = bool(run.abilities) and all(row.base_from_store for row in run.abilities)
        if not alike or models < 1 or known not in (0, asked * base_known):
            return None, None
        try:
            units = sum(row.verdict.n * units_of(row.ability) for row in run.abilities)
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
        """The reports, best evidence first: same editor, same edit count, newest."""
        count = self._settings.edit_count or DEFAULT_COUNT

        def likeness(run: RunReport) -> tuple[bool, bool, str]:
            return run.header.method == self._method, run.header.edit_count == count, run.header.started

        return tuple(sorted(self._alike(), key=likeness, reverse=True))

    def _alike(self) -> Iterator[RunReport]:
        """The reports with the same model, data and way of asking."""
        folders = sorted(self._settings.reports.glob("*/verdict.json"), reverse=True)  # names begin with the date
        for file in folders[:READ_AT_MOST]:
            try:
                run = read_report(file)
            except AuditError:  # written by another version, or not a report
                continue
            same = self._matches(run, Effect.MODEL, Effect.ANSWERS) and run.header.data == self._data
            if same and run.header.rescored is None and not run.header.compared:
                yield run

    def _matches(self, run: RunReport, *effects: Effect) -> bool:
        """Whether the run had these settings; an option that is newer than the run had its default."""
        wanted = self._settings.by_effect(*effects)
        wanted.pop("data", None)  # the header has the name of the source, which a conftest may replace
        defaults = DEFAULTS.by_effect(*effects)
        return all(run.settings.get(name, defaults[name]) == value for name, value in wanted.items())


def _name(run: RunReport) -> str:
    return Path(run.folder or "").name
