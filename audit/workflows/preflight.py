"""What a run could say, before it runs: the same questions are drawn, and no model is loaded.

    preflight = Preflight(AuditSettings(model="pocket-llama", limit=500))
    preflight.plan("nli", max_drop=0.05)     # a PlannedAbility: can that margin be certified?
    preflight.report()                       # all that were planned, and the minutes

How many answers will change nobody knows yet: it is taken from an earlier run, or else assumed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import numpy as np

from audit.abilities import ABILITIES
from audit.abilities.contract import Ability, Item
from audit.abilities.data.origin import Source
from audit.abilities.data.sources import RememberedRows, source_of_data
from audit.answering.items import drawn_questions
from audit.edits.plan import DEFAULT_COUNT
from audit.errors import AuditError, UnaskedError
from audit.reports.rows import RunHeader
from audit.reports.workflows.preflight import POWER, TOO_SMALL, PlannedAbility, PlanReport, in_minutes
from audit.settings.options import DEFAULT_MARGIN, AuditSettings
from audit.store.content import Store, store_at
from audit.verdicts.design import Design
from audit.verdicts.intervals import Floats
from audit.verdicts.margins import Margin, Points, Retained, margin_of
from audit.verdicts.planning import Plan, plan_scores
from audit.verdicts.rehearsal import rehearse
from audit.verdicts.sequential import EARLY_SHARE
from audit.workflows.durations import Machine, ModelFiles, Work, guessed_tokens, machine_speed, work_of
from audit.workflows.past_runs import EarlierRuns, Seen

ALPHA = 0.05  # one-sided, of every verdict
ASSUMED_CHANGES = 0.10  # the share of answers that change, where no earlier run tells
ASSUMED_CHANGE = 0.3  # by how many points a graded score does (root mean square); a sentence's F1 by more
ASSUMED_CHANGE_OF_ENTITIES = 0.5
GRADED = ("summarization",)  # abilities whose scores lie between 0 and 1; to see it would take importing the metric
MANY = 50_000  # items that nobody asks
REHEARSED = 1_000  # runs for each number of items that is tried
LONGEST = 5  # prompts by their letters, among which the one with most tokens is looked for
ENOUGH_MOVES = 10  # scores that changed in an earlier run, to tell by how much they do


@dataclass(frozen=True)
class Questions:
    """An ability's items as a plan sees them: who shares a source, and what each adds to a corpus metric.

    `weights` (n,) are what the items add to the denominator of a corpus metric, None for a mean. `whole`: each item is
    right or wrong, and the score is their mean.
    """

    ability: Ability
    items: Sequence[Item]
    weights: tuple[float, ...] | None

    @classmethod
    def of(cls, ability: Ability, drawn: Sequence[Item]) -> "Questions":
        """What a score is made of is seen from right answers."""
        if ability.decoding is None or ability.name in GRADED:
            return cls(ability, drawn, None)
        counts = np.array([ability.score(one, ability.parse(ability.worked(one))).counts for one in drawn], dtype=float)
        return cls(ability, drawn, _weights(counts) if counts.shape[1] else None)

    @property
    def whole(self) -> bool:
        return self.weights is None and self.ability.name not in GRADED

    def repeated(self, n: int) -> tuple[tuple[str, ...] | None, tuple[float, ...] | None]:
        """Sources and weights of `n` items like these; more than there are repeat the pattern of these."""
        rounds = math.ceil(n / len(self.items))
        clusters = tuple(f"{item.cluster} {again}" for again in range(rounds) for item in self.items)[:n]
        weights = None if self.weights is None or not any(self.weights) else (self.weights * rounds)[:n]
        return (clusters if len(set(clusters)) < n else None), weights


@dataclass(frozen=True)
class Expected:
    """What is expected of the answers: the share whose score changes, and by how much (as a `Design` takes it).

    `alpha` is that of the verdict about all of them.

    `whole`: what decides are numbers of right answers lost and gained. Where a share is to be retained, what changes is
    share * base - edited: simulated with 200 items, the margins planned for it pass in 80 to 87 % of runs.
    """

    asked: Questions
    changes: float
    change: float | tuple[float, ...]
    whole: bool
    alpha: float

    @classmethod
    def of(cls, asked: Questions, seen: Seen | None, margin: Margin, alpha: float) -> "Expected":
        """By what an earlier run saw, where there was one with enough to see."""
        changes = ASSUMED_CHANGES if seen is None else seen.changes
        if asked.whole and isinstance(margin, Retained):
            # share * base - edited varies with the base answers as well, by (1 - share)^2 base (1 - base).
            varies = 0.25 if seen is None else seen.row.base * (1 - seen.row.base)
            return cls(asked, min(1.0, changes + (1 - margin.share) ** 2 * varies), 1.0, False, alpha)
        if asked.whole:
            return cls(asked, changes, 1.0, True, alpha)
        moves = () if seen is None else seen.moves
        assumed = ASSUMED_CHANGE if asked.weights is None else ASSUMED_CHANGE_OF_ENTITIES
        return cls(asked, changes, moves if len(moves) >= ENOUGH_MOVES else assumed, False, alpha)

    def plan(self, n: int) -> Plan:
        """What `n` items like these could tell."""
        clusters, weights = self.asked.repeated(n)
        return plan_scores(
            n,
            self.changes,
            binary=self.whole,
            change=self.change,
            clusters=clusters,
            corpus_weights=weights,
            power=POWER,
            alpha=self.alpha,
        )

    def certifies(self, n: int, margin: float) -> bool:
        """Whether `n` items like these could certify a margin in score points."""
        clusters, weights = self.asked.repeated(n)
        design = Design(n, self.changes, self.change, self.whole, clusters, weights=weights)
        return rehearse(design, alpha=self.alpha, runs=REHEARSED).certify(margin) >= POWER


class Preflight:
    """The plan of a run with these settings; `source` as for an `Audit`.

    `check` raises `AuditError` where no ability at all could be asked.
    """

    def __init__(self, settings: AuditSettings, source: Source | None = None) -> None:
        self.settings = settings
        self.source = RememberedRows(source or source_of_data(settings.data, _store(settings)))
        self.unasked: dict[str, str] = {}
        self._planned: dict[str, PlannedAbility] = {}
        self._works: dict[str, Work] = {}
        self._earlier = EarlierRuns(settings, self.source.name)

    def check(self) -> None:
        self.source.check()

    def plan(self, ability: str, max_drop: float | str | Margin = DEFAULT_MARGIN) -> PlannedAbility:
        """What the items of an ability could tell about a margin, which the settings may override.

        Raises:
            UnaskedError: this ability's questions cannot be had.
        """
        margin = self.settings.margins.get(ability) or margin_of(max_drop)
        try:
            found, drawn = drawn_questions(ability, self.source, self.settings)
            self._require_room(found, drawn)
            planned = self._plan(Questions.of(found, drawn), margin)
        except AuditError as error:
            self.unasked[ability] = str(error)
            raise UnaskedError(f"{ability} cannot be asked: {error}") from error
        self._planned[ability] = planned
        return planned

    def report(
        self, planned: Sequence[PlannedAbility] | None = None, unasked: Mapping[str, str] | None = None
    ) -> PlanReport:
        """All that was planned here, or what was planned elsewhere, with the time that it takes."""
        order = {name: place for place, name in enumerate(ABILITIES)}
        rows = list(self._planned.values()) if planned is None else list(planned)
        rows.sort(key=lambda row: order.get(row.ability, len(order)))
        timed, told = self._timed(rows) if rows else ([], "")
        missing = self.unasked if unasked is None else unasked
        return PlanReport(self.header, tuple(timed), dict(missing), told, self.settings.early_stop)

    @cached_property
    def header(self) -> RunHeader:
        """What would be audited and how, as far as it was said."""
        wanted = self.settings
        return RunHeader(
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            model=wanted.model,
            revision=wanted.revision,
            editor=wanted.edited or wanted.editor,
            edits=wanted.edits or ("" if wanted.edited else "pocket"),
            plan="planned only",
            edit_count=wanted.edit_count or (0 if wanted.edited else DEFAULT_COUNT),
            device=wanted.device,
            dtype=wanted.dtype,
            seed=wanted.seed,
            limit=wanted.limit,
            restraint=wanted.restraint,
            data=self.source.name,
            protocol=wanted.protocol,
            shots=wanted.shots,
            chat_template=wanted.chat_template,
            checkpoint=wanted.edited is not None,
        )

    def _plan(self, asked: Questions, margin: Margin) -> PlannedAbility:
        ability, n, seen = asked.ability, len(asked.items), self._earlier.seen(asked.ability.name)
        # What no look settles is settled at the end, by the alpha that the looks have left.
        alpha = ALPHA * (1 - EARLY_SHARE) if self.settings.early_stop else ALPHA
        expected = Expected.of(asked, seen, margin, alpha)
        plan = expected.plan(n)
        self._works[ability.name] = work = work_of(ability, asked.items, self._tokens_of)
        row = PlannedAbility(
            ability=ability.name,
            protocol=ability.protocol,
            items=n,
            clusters=len({item.cluster for item in asked.items}),
            changes=ASSUMED_CHANGES if seen is None else seen.changes,
            smallest_drop=plan.smallest_drop,
            smallest_margin=plan.smallest_margin,
            margin=margin.points if isinstance(margin, Points) else None,
            asked_margin=str(margin),
            changes_from=None if seen is None else seen.run,
            at_the_floor=seen is not None and not seen.row.assessable,
            read=work.read,
            written=work.written,
            written_at_most=work.at_most,
        )
        if isinstance(margin, Retained):
            floor = ability.floor(asked.items)
            if seen is None:
                row = replace(row, needed_base=_needed_base(margin, floor, plan.smallest_margin))
            else:
                row = replace(row, margin=margin.at(seen.row.base, floor))
        return row if row.prospect != TOO_SMALL else self._with_remedy(row, expected, margin)

    def _with_remedy(self, row: PlannedAbility, expected: Expected, margin: Margin) -> PlannedAbility:
        """The row with what would do: so many items, if the data has them."""
        asked, points, smallest = expected.asked, row.margin, row.smallest_margin
        if points is None:  # a share that not even a perfect base score makes large enough
            points = margin.at(1.0, asked.ability.floor(asked.items))
        available = len(self.source.rows(row.ability))
        times = row.items / min(self.settings.limit, available)  # items that a row becomes
        enough, all_of_it = _enough(expected, row.items, smallest, points), math.ceil(available * times)
        return replace(
            row,
            available=available,
            limit_enough=None if enough is None else math.ceil(enough / times),
            smallest_with_all=expected.plan(all_of_it).smallest_margin if all_of_it > row.items else smallest,
        )

    def _require_room(self, ability: Ability, drawn: Sequence[Item]) -> None:
        """Raise `AuditError` when the longest prompts leave no room in the context of a model whose files are known."""
        if self._files is None or not self._files.context:
            return
        longest = sorted((ability.prompt(item) for item in drawn), key=len)[-LONGEST:]
        tokens = max(map(self._tokens_of, longest))
        if tokens >= self._files.context:
            raise AuditError(
                f"its longest prompt has {tokens:.0f} tokens, but the context of {self.settings.model} holds "
                f"{self._files.context}; choose a model with a longer context, or fewer --shots."
            )

    def _timed(self, rows: Sequence[PlannedAbility]) -> tuple[list[PlannedAbility], str]:
        """The rows with the seconds that base and edited answers take, and how those are known."""
        speed = self._earlier.speed(self._units_of)
        if speed is not None:
            each = speed.base + self._models * speed.edited
            timed = [replace(row, seconds=each * _work(row).units) for row in rows]
            return timed, f"minutes: at the speed of {' and '.join(speed.runs)}; editing comes on top."
        try:
            machine, size = self._machine()
        except AuditError as error:
            return list(rows), f"minutes: not known, for no earlier run tells, and {error}"
        times = 1 + self._models
        timed = [replace(row, seconds=times * machine.seconds(_work(row))) for row in rows]
        most = times * sum(machine.seconds_at_most(_work(row)) for row in rows)
        return timed, (
            f"minutes: a rough estimate, for no earlier run tells: {size / 1e6:.3g} million weights at the speed of "
            f"this {machine.device} ({machine.dtype}), answers as long as right ones; at most {in_minutes(most)} if "
            "each goes on to its limit. Editing comes on top."
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
        """The work that an item of the ability is, planned here or not."""
        if ability not in self._works:
            found, drawn = drawn_questions(ability, self.source, self.settings)
            self._works[ability] = work_of(found, drawn, self._tokens_of)
        return self._works[ability].units / self._works[ability].items

    @property
    def _models(self) -> int:
        """How many edited models there will be."""
        wanted = self.settings
        return (wanted.edit_count or DEFAULT_COUNT) if wanted.edit_mode == "instance-single" else 1


def _work(row: PlannedAbility) -> Work:
    return Work(row.items, row.read, row.written, row.written_at_most)


def _weights(counts: Floats) -> tuple[float, ...]:
    """(n,) what each item adds to the denominator of its corpus metric, from the (n, counts) of right answers."""
    if counts.shape[1] == 3:  # true positives, false positives, misses: the gold entities
        return tuple((counts[:, 0] + counts[:, 2]).tolist())
    there = counts[:, 1::2]  # (n, classes); every class counts the same, however many of its kind there are
    return tuple((there / np.maximum(there.sum(0), 1)).sum(1).tolist())


def _needed_base(margin: Retained, floor: float, smallest: float | None) -> float | None:
    """The base score from which on (1 - share) (base - floor) is at least the smallest margin; None where none is."""
    if smallest is None:
        return None
    base = floor + smallest / (1 - margin.share)
    return base if base <= 1 else None


def _enough(expected: Expected, n: int, smallest: float | None, margin: float) -> int | None:
    """About how many items certify a margin that `n` do not; None where not even `MANY` do.

    `smallest` is what the `n` certify. The margin falls with the number of items at most as fast as 1 / n, and with
    many of them as 1 / sqrt(n): so the number is looked for between the two.
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


def _store(settings: AuditSettings) -> Store | None:
    if not settings.use_store:
        return None
    return store_at(settings.store)
