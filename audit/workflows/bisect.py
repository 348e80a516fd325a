"""The edit, or the smallest set of edits, that makes an edit plan fail.

    found = find_culprits(run, show=print)
    found.sentences()[0]      # "edit #137 'X -> Y' costs 6.1 points of reasoning [4.0, 8.3], ..."

The oracle is the ability with the largest drop, asked on growing shares of its items until its outcome is clear. The
harm of the edits found is measured on fresh items: the plan with these edits against the plan without them.

The searches at the end of the file are pure. All know that the whole fails and the empty set does not. An oracle that
errs makes the result less certain, but every search ends.

    first_failing((1, 2, 3, 4), fails=lambda count: count >= 3)            # 3, in two evaluations
    halved(range(64), fails=lambda part: 17 in part)                       # (17,), in six evaluations
    minimized(range(64), fails=lambda part: {3, 40} <= set(part))          # (3, 40)
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from itertools import pairwise

from audit.abilities.contract import Answers
from audit.answering.judgments import Judgment
from audit.answering.paired_answers import PairedAnswers
from audit.errors import AbilityError, AuditError
from audit.reports.ability_rows import row_of
from audit.reports.rows import AbilityRow
from audit.reports.workflows.bisect import Culprits, Evaluation, NamedEdit
from audit.settings.options import DEFAULT_MARGIN
from audit.verdicts import FAIL
from audit.workflows.edit_subsets import EditSubset, PlanRun

FEWEST_ITEMS = 25  # in the first share that the oracle asks

Show = Callable[[Evaluation], None]
Fails = Callable[[tuple[int, ...]], bool]


class NothingToFind(AuditError):  # noqa: N818 - not an error of the user
    """The edit plan does not fail."""


class _AtLimitError(Exception):
    """The oracle was asked as often as allowed."""


def find_culprits(
    run: PlanRun,
    abilities: Sequence[str] | None = None,
    *,
    evaluations: int = 32,  # of the ability; the first search takes ceil(log2 n) and always ends
    show: Show | None = None,
) -> Culprits:
    """The edits that make the plan fail in the ability that drops most.

    A sequential plan is searched by its prefixes, which need no further editing; a batch by halves, each edited again.
    If the harm of the result is not confirmed on fresh items, no single edit is responsible: then the smallest subset
    known to fail is minimized (ddmin) with the remaining evaluations.

    Raises:
        NothingToFind: no ability fails.
        AuditError: there are no fresh items.
    """
    plan = _failing(run, abilities or run.audit.settings.abilities.asked)
    run.fresh().rows(plan.ability)  # raises if there are none, before the search
    oracle = Oracle(run, plan, show)
    oracle.note("all edits", plan)
    sequential, places = run.plan.sequential, tuple(range(run.plan.count))
    if sequential:
        last = first_failing(run.counts, lambda count: oracle.fails(run.first(count), f"edits 1 to {count}"))
        step = range(max((count for count in run.counts if count < last), default=0), last)
        found, smallest = tuple(step), tuple(range(last))
        method = "prefix search"
    else:
        found, method = halved(places, oracle.part_fails), "halving"
        smallest = oracle.smallest or places
    cost, without = _weighed(run, plan, found)
    minimal = True
    if (cost.verdict.lower <= 0 or len(found) > 1) and len(smallest) > 1:
        # One step of several edits, or the smallest failing subset.
        start = found if cost.verdict.lower > 0 else smallest
        found, minimal = _minimized(oracle, start, evaluations)
        cost, without = _weighed(run, plan, found)
        method += " and delta debugging"
    named = tuple(_named(run, place) for place in found)
    return Culprits(run.audit.header, plan, named, method, tuple(oracle.evaluations), cost, without, minimal)


class Oracle:
    """Decides whether a model with some of the edits still fails in the ability of `plan`, the row of the whole plan.

    Shares of the items are asked, each twice the one before, until both limits of the drop are on the same side of the
    margin. If they never are, the drop itself decides and the evaluation is not `sure`.
    """

    def __init__(self, run: PlanRun, plan: AbilityRow, show: Show | None = None) -> None:
        self.run, self.plan, self.show = run, plan, show
        self.evaluations: list[Evaluation] = []
        self.smallest: tuple[int, ...] = ()  # failing subset so far

    def fails(self, edits: EditSubset, name: str) -> bool:
        """Whether the model still fails; `name` is its name in the report."""
        wanted = self.run.audit.settings
        for limit in shares(wanted.limit):
            row = self.run.audit.under(edits, limit=limit).verdict(self.plan.ability, self.plan.verdict.margin)
            if _sure(row):
                break
        return self.note(name, row)

    def part_fails(self, places: tuple[int, ...]) -> bool:
        """Whether a model with only these edits, by place in the plan, still fails."""
        name = f"edit {places[0] + 1}" if len(places) == 1 else f"{len(places)} edits, {_ranges(places)}"
        failed = self.fails(self.run.only(places), name)
        if failed and (not self.smallest or len(places) < len(self.smallest)):
            self.smallest = places
        return failed

    def note(self, name: str, row: AbilityRow) -> bool:
        """Record the evaluation; returns whether it is a failure."""
        one = Evaluation(name, row.verdict, row.verdict.drop > row.verdict.margin, _sure(row))
        self.evaluations.append(one)
        if self.show is not None:
            self.show(one)
        return one.failed


def _sure(row: AbilityRow) -> bool:
    """Whether an interval excludes the margin."""
    return row.verdict.lower > row.verdict.margin or row.verdict.upper <= row.verdict.margin


def shares(limit: int) -> tuple[int, ...]:
    """An eighth, a quarter, a half and all of the items, but at least `FEWEST_ITEMS`."""
    return tuple(dict.fromkeys(min(limit, max(FEWEST_ITEMS, limit // part)) for part in (8, 4, 2, 1)))


def _failing(run: PlanRun, abilities: Sequence[str]) -> AbilityRow:
    """The failing ability that drops most. Abilities that cannot be asked are skipped if there are several."""
    audit = run.audit.under(run.whole())
    rows: list[AbilityRow] = []
    for name in abilities:
        with suppress(AbilityError) if len(abilities) > 1 else nullcontext():
            rows.append(audit.verdict(name, DEFAULT_MARGIN))
    failing = [row for row in rows if row.outcome == FAIL]
    if not failing:
        found = ", ".join(f"{row.label} {row.outcome} (drop {row.verdict.drop:.3f})" for row in rows)
        raise NothingToFind(
            f"the edit plan does not fail, so there is nothing to find: {found or 'no ability was asked'}."
        )
    return max(failing, key=lambda row: row.verdict.drop)


def _minimized(oracle: Oracle, start: tuple[int, ...], most: int) -> tuple[tuple[int, ...], bool]:
    """A minimal failing subset, and whether the search ended within `most` evaluations in total."""
    oracle.smallest = start

    def fails(places: tuple[int, ...]) -> bool:
        if len(oracle.evaluations) >= most:
            raise _AtLimitError
        return oracle.part_fails(places)

    try:
        return minimized(start, fails), True
    except _AtLimitError:
        return oracle.smallest, False


def _weighed(run: PlanRun, plan: AbilityRow, places: Sequence[int]) -> tuple[AbilityRow, AbilityRow]:
    """On fresh items: the plan with these edits against the plan without them, and the latter against the base."""
    taken = frozenset(places)
    rest = run.only([place for place in range(run.plan.count) if place not in taken])
    both = run.audit.under(run.side_by_side(rest, run.whole()), source=run.fresh())
    found = both.answers(plan.ability)
    without, with_them = found.edited
    seed, margin = run.audit.settings.seed, plan.verdict.margin

    def row(before: Answers, after: Answers) -> AbilityRow:
        paired = PairedAnswers(found.ability, before, (after,))
        return row_of(Judgment(paired.verdict(margin=margin, seed=seed), paired, None), margin)

    return row(without, with_them), row(found.base, without)


def _named(run: PlanRun, place: int) -> NamedEdit:
    request = run.changes.drawn.requests[place]
    return NamedEdit(place + 1, request.case_id, request.filled_prompt, request.target_new)


def _ranges(places: Sequence[int]) -> str:
    """ "1 to 4, 9": the numbers of edits, counted from 1."""
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][1] == place - 1:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    return ", ".join(f"{a + 1}" if a == b else f"{a + 1} to {b + 1}" for a, b in runs)


def first_failing(allowed: Sequence[int], fails: Callable[[int], bool]) -> int:
    """The smallest of `allowed` (ascending) that fails, if failing is monotone; the last one is known to fail.

    Otherwise one that fails while the one before it does not. At most ceil(log2 n) evaluations.
    """
    low, high = -1, len(allowed) - 1  # places: the number at `low` does not fail, the one at `high` does
    while high - low > 1:
        middle = (low + high) // 2
        if fails(allowed[middle]):
            high = middle
        else:
            low = middle
    return allowed[high]


def halved(parts: Sequence[int], fails: Fails) -> tuple[int, ...]:
    """The one part that makes the whole fail, if there is one, in ceil(log2 n) evaluations.

    Only the first of two halves is evaluated; if it does not fail, the other is assumed to. So if several parts are
    responsible together, the result is a guess.
    """
    left = tuple(parts)
    while len(left) > 1:
        half = left[: len(left) // 2]
        left = half if fails(half) else left[len(left) // 2 :]
    return left


def minimized(parts: Sequence[int], fails: Fails) -> tuple[int, ...]:
    """A subset that fails, and does not without any one of its elements (Zeller and Hildebrandt 2002: ddmin).

    At most n² + 3n evaluations, and far fewer if few elements are responsible. No subset is evaluated twice.
    """
    known: dict[tuple[int, ...], bool] = {}

    def still(some: tuple[int, ...]) -> bool:
        if some not in known:
            known[some] = fails(some)
        return bool(some) and known[some]

    left, pieces = tuple(parts), 2
    while len(left) > 1:
        bounds = [len(left) * number // pieces for number in range(pieces + 1)]
        chunks = [left[start:end] for start, end in pairwise(bounds)]
        alone = next((chunk for chunk in chunks if still(chunk)), None)
        if alone is not None:
            left, pieces = alone, 2
            continue
        rests = (tuple(part for part in left if part not in chunk) for chunk in chunks)
        rest = next((rest for rest in rests if pieces > 2 and still(rest)), None)
        if rest is not None:
            left, pieces = rest, max(pieces - 1, 2)
        elif pieces < len(left):
            pieces = min(2 * pieces, len(left))
        else:
            break
    return left
