"""The preflight of an audit: which margins its items could certify, and how long it would take. No model is loaded.

    preflight = Preflight(AuditSettings(model="pocket-llama", limit=500))
    preflight.assess("nli", max_drop=0.05)   # an AbilityPreflight: can this margin be certified?
    preflight.report()                       # all abilities assessed so far, with the minutes

The share of answers that will change comes from a past run where there is one, and is assumed otherwise.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property

from audit.abilities.contract import Ability, Item
from audit.abilities.data import Source
from audit.abilities.data.ability_source import AbilitySource
from audit.abilities.data.sources import RowCache, source_of_data
from audit.answering.items import drawn_items, margin_for, with_reading
from audit.editing.identity import EditSummary
from audit.edits.plan import DEFAULT_COUNT
from audit.errors import AbilityError, AuditError
from audit.reports.rows import RunHeader, usual_place
from audit.reports.run_rows import run_header
from audit.reports.workflows.preflight import TOO_SMALL, AbilityPreflight, PreflightReport, in_minutes
from audit.settings.options import DEFAULT_KEEP, DEFAULT_MARGIN, AuditSettings
from audit.store.content import store_at
from audit.verdicts.margins import Margin, Points, Retained, SuiteMargins, margin_of
from audit.verdicts.sequential import EARLY_SHARE
from audit.workflows.durations import Machine, ModelFiles, Work, guessed_tokens, machine_speed, work_of
from audit.workflows.expectation import ASSUMED_CHANGES, Expectation, Sample
from audit.workflows.past_runs import PastRuns

ALPHA = 0.05  # one-sided, of every verdict
MANY = 50_000  # items; a larger --limit is not suggested
LONGEST = 5  # prompts with the most characters, which are tokenized to find the longest one


class Preflight:
    """The preflight of a run with these settings; `source` as for an `Audit`."""

    def __init__(self, settings: AuditSettings, source: Source | None = None) -> None:
        self.settings = settings
        store = store_at(settings.store) if settings.use_store else None
        self._rows_of = AbilitySource(source or source_of_data(settings.data, store), settings.abilities)
        self.source = RowCache(self._rows_of)
        self.unasked: dict[str, str] = {}
        self._rows: dict[str, AbilityPreflight] = {}
        self._works: dict[str, Work] = {}
        self._past = PastRuns(settings, self._rows_of.shown)

    def check(self) -> None:
        """Raise `AuditError` if the data of no ability can be read."""
        self.source.check()

    def assess(
        self,
        ability: str,
        max_drop: float | str | Margin = DEFAULT_MARGIN,
        keep: str | Margin = DEFAULT_KEEP,
        reading: str = "",
    ) -> AbilityPreflight:
        """What the items of an ability could certify of a margin; arguments as for `Audit.verdict`.

        Where the reading is chosen on the model, it is that of the newest past run, else the ability's first.

        Raises:
            AbilityError: the items of this ability cannot be read or asked.
            AuditError: a margin of the suite is not one.
        """
        suite = SuiteMargins(margin_of(max_drop), margin_of(keep))
        try:
            self.settings = self.settings.with_ability(ability)
            self._rows_of.know(self.settings.abilities)
            ability = self.settings.abilities.name_of(ability) or ability
            found, drawn = self._drawn(ability, reading)
            margin = margin_for(found, suite, self.settings)
            self._require_room(found, drawn)
            row = self._row(Sample.of(found, drawn), margin)
        except AuditError as error:
            self.unasked[ability] = str(error)
            raise AbilityError(f"{ability} cannot be asked: {error}") from error
        self._rows[ability] = row
        return row

    def report(
        self, rows: Sequence[AbilityPreflight] | None = None, unasked: Mapping[str, str] | None = None
    ) -> PreflightReport:
        """The rows assessed here, or those given (from other processes), with the time that each ability takes."""
        found = sorted(self._rows.values() if rows is None else rows, key=lambda row: usual_place(row.ability))
        timed, timing = self._timed(found) if found else ([], "")
        missing = self.unasked if unasked is None else unasked
        return PreflightReport(self.header, tuple(timed), dict(missing), timing, self.settings.early_stop)

    @cached_property
    def header(self) -> RunHeader:
        """The header of the run, from the settings alone."""
        wanted = self.settings
        edits = EditSummary(
            method=wanted.edited or wanted.editor,
            plan="preflight only",
            edit_count=wanted.edit_count or (0 if wanted.edited else DEFAULT_COUNT),
            origin=wanted.edits or ("" if wanted.edited else "pocket"),
            restraint=wanted.restraint,
            checkpoint=wanted.edited is not None,
        )
        model = wanted.revision, wanted.device, wanted.dtype
        return run_header(wanted, edits, data=self._rows_of.shown, started=datetime.now(UTC), loaded=model)

    def _row(self, sample: Sample, margin: Margin) -> AbilityPreflight:
        ability, n, past = sample.ability, len(sample.items), self._past.verdict(sample.ability.name)
        # With early stopping, the verdict on all items has the alpha that the looks before it did not spend.
        alpha = ALPHA * (1 - EARLY_SHARE) if self.settings.early_stop else ALPHA
        expected = Expectation.of(sample, past, margin, alpha)
        power = expected.power(n)
        self._works[ability.name] = work = work_of(ability, sample.items, self._tokens_of)
        row = AbilityPreflight(
            ability=ability.name,
            protocol=ability.protocol,
            items=n,
            clusters=len({item.cluster for item in sample.items}),
            changes=ASSUMED_CHANGES if past is None else past.changes,
            smallest_drop=power.smallest_drop,
            smallest_margin=power.smallest_margin,
            margin=margin.points if isinstance(margin, Points) else None,
            asked_margin=str(margin),
            changes_from=None if past is None else past.run,
            at_the_floor=past is not None and not past.row.verdict.assessable,
            read=work.read,
            written=work.written,
            written_at_most=work.at_most,
        )
        if isinstance(margin, Retained):
            floor = ability.floor(sample.items)
            measured = ability.scorer is not None and ability.scorer.measured_floor
            if past is None:
                needed = _needed_base(margin, floor, power.smallest_margin)
                row = replace(row, needed_base=needed, above_floor=measured)
            else:
                floor = past.row.verdict.floor if measured else floor
                row = replace(row, margin=margin.at(past.row.verdict.base, floor))
        return row if row.prospect != TOO_SMALL else self._with_remedy(row, expected, margin)

    def _with_remedy(self, row: AbilityPreflight, expected: Expectation, margin: Margin) -> AbilityPreflight:
        """The row with the number of items that would be enough, and the number that the data has."""
        sample, points, smallest = expected.sample, row.margin, row.smallest_margin
        if points is None:  # a share whose margin is too small even at a perfect base score
            points = margin.at(1.0, sample.ability.floor(sample.items))
        available = len(self.source.rows(row.ability))
        times = row.items / min(self.settings.limit, available)  # items made from one row
        enough, all_of_it = _enough(expected, row.items, smallest, points), math.ceil(available * times)
        return replace(
            row,
            available=available,
            limit_enough=None if enough is None else math.ceil(enough / times),
            smallest_with_all=expected.power(all_of_it).smallest_margin if all_of_it > row.items else smallest,
        )

    def _require_room(self, ability: Ability, drawn: Sequence[Item]) -> None:
        """Raise `AuditError` if the longest prompt fills the model's context; skipped without the model's files."""
        if self._files is None or not self._files.context:
            return
        longest = sorted((ability.prompt(item) for item in drawn), key=len)[-LONGEST:]
        tokens = max(map(self._tokens_of, longest))
        if tokens >= self._files.context:
            raise AuditError(
                f"its longest prompt has {tokens:.0f} tokens, but the context of {self.settings.model} holds "
                f"{self._files.context}; choose a model with a longer context, or fewer --shots."
            )

    def _timed(self, rows: Sequence[AbilityPreflight]) -> tuple[list[AbilityPreflight], str]:
        """The rows with the seconds of base and edited answers, and a sentence about where the seconds come from."""
        speed = self._past.speed(self._units_of)
        if speed is not None:
            each = speed.base + self._models * speed.edited
            timed = [replace(row, seconds=each * _work(row).units) for row in rows]
            return timed, f"minutes: at the speed of {' and '.join(speed.runs)}, without the time for editing."
        try:
            machine, size = self._machine()
        except AuditError as error:
            return list(rows), f"minutes: unknown, since there is no past run to go by and {error}"
        times = 1 + self._models
        timed = [replace(row, seconds=times * machine.seconds(_work(row))) for row in rows]
        most = times * sum(machine.seconds_at_most(_work(row)) for row in rows)
        return timed, (
            f"minutes: a rough estimate without a past run: {size / 1e6:.3g} million weights at the speed of this "
            f"{machine.device} ({machine.dtype}), with answers as long as right ones; at most {in_minutes(most)} if "
            "each answer runs to its token limit. The time for editing is not included."
        )

    def _machine(self) -> tuple[Machine, int]:
        if self._files is None:
            raise AuditError(f"the files of {self.settings.model} are not on this machine.")
        return machine_speed(self._files, self.settings.device, self.settings.dtype), sum(self._files.matrices)

    @cached_property
    def _files(self) -> ModelFiles | None:
        return ModelFiles.of(self.settings.model, self.settings.revision)

    def _tokens_of(self, text: str) -> float:
        return guessed_tokens(text) if self._files is None else self._files.tokens_of(text)

    def _units_of(self, ability: str) -> float:
        """The work of one item of an ability, on average."""
        if ability not in self._works:
            self._works[ability] = work_of(*self._drawn(ability, ""), self._tokens_of)
        return self._works[ability].units / self._works[ability].items

    def _drawn(self, ability: str, reading: str) -> tuple[Ability, Sequence[Item]]:
        """The ability as it would be asked, and its items."""
        wanted = with_reading(self.settings, ability, reading)
        past = self._past.verdict(ability) if wanted.reading_of(ability) == "auto" else None
        if past is not None and past.row.reading:
            wanted = replace(wanted, reading={**wanted.reading, ability: past.row.reading})
        asked = drawn_items(ability, self.source, wanted)
        return asked.ability, asked.items

    @property
    def _models(self) -> int:
        """The number of edited models."""
        wanted = self.settings
        return (wanted.edit_count or DEFAULT_COUNT) if wanted.edit_mode == "instance-single" else 1


def _work(row: AbilityPreflight) -> Work:
    return Work(row.items, row.read, row.written, row.written_at_most)


def _needed_base(margin: Retained, floor: float, smallest: float | None) -> float | None:
    """The lowest base score at which (1 - share) (base - floor) reaches the smallest margin; None if it is above 1."""
    if smallest is None:
        return None
    base = floor + smallest / (1 - margin.share)
    return base if base <= 1 else None


def _enough(expected: Expectation, n: int, smallest: float | None, margin: float) -> int | None:
    """About how many items certify a margin that `n` items do not; None if `MANY` do not either.

    `smallest` is the smallest margin that `n` items certify. It falls with the number of items at most as fast as 1/n,
    and as 1/sqrt(n) for many items, so the search runs between the two.
    """
    times = (smallest or 1.0) / max(margin, 1e-12)
    few, many = max(n, math.floor(n * min(times, MANY))), max(n + 1, math.ceil(n * min(times, MANY) ** 2))
    if few >= MANY:
        return None
    many = min(many, MANY)
    while not expected.certifies(many, margin):
        few, many = many, many + many // 4 + 1
        if many > MANY:
            return None
    while many - few > max(1, many // 30):
        middle = (few + many) // 2
        few, many = (few, middle) if expected.certifies(middle, margin) else (middle, many)
    return many
