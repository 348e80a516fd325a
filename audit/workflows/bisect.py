"""Given a plan that fails: the edit, or the smallest set of edits, that the harm comes from.

    found = find_culprits(run, told=print)
    found.sentences()[0]      # "edit #137 'X -> Y' costs 6.1 points of reasoning [4.0, 8.3], ..."

The oracle is one ability, that with the largest drop, asked in growing shares of its items until it is clear whether
it fails. What the search finds is weighed on items that it never asked, as the plan with against the plan without.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress

from audit.abilities import ABILITIES
from audit.abilities.contract import Answers
from audit.answering.paired_answers import PairedAnswers
from audit.errors import AuditError, UnaskedError
from audit.reports.ability_rows import compare
from audit.reports.rows import AbilityRow
from audit.reports.workflows.bisect import Culprits, Evaluation, NamedEdit
from audit.settings.options import DEFAULT_MARGIN
from audit.verdicts import FAIL
from audit.workflows.edit_subsets import MadeEdits, PlanRun
from audit.workflows.search import first_failing, halved, minimized

FEWEST_ITEMS = 25  # asked before the oracle may say anything

Told = Callable[[Evaluation], None]


class NothingToFind(AuditError):  # noqa: N818 - no mistake of anybody's: the plan does no harm
    """The plan does not fail."""


class _AtLimitError(Exception):
    """The oracle was asked as often as it may be."""


def find_culprits(
    run: PlanRun,
    abilities: Sequence[str] | None = None,
    *,
    evaluations: int = 32,  # of the ability; the first search, of ceil(log2 n), always comes to its end
    told: Told | None = None,
) -> Culprits:
    """The edits that make the plan fail in the one of the abilities that drops most.

    A sequential plan is searched by its prefixes, which are there already; a batch by halves, each edited for itself.
    If what comes out is not confirmed as harm on fresh items, no single edit is responsible: then the smallest part
    known to fail is minimized (ddmin) with the evaluations that are left.

    Raises:
        NothingToFind: no ability fails.
        AuditError: there are no fresh items.
    """
    plan = _failing(run, abilities or tuple(ABILITIES))
    run.fresh().rows(plan.ability)  # that there are none is said before the search
    oracle = Oracle(run, plan, told)
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
    if (cost.lower <= 0 or len(found) > 1) and len(smallest) > 1:
        start = found if cost.lower > 0 else smallest  # a step of several edits, or all that is known to fail
        found, minimal = _minimized(oracle, start, evaluations)
        cost, without = _weighed(run, plan, found)
        method += " and delta debugging"
    named = tuple(_named(run, place) for place in found)
    return Culprits(run.audit.header, plan, named, method, tuple(oracle.evaluations), cost, without, minimal)


class Oracle:
    """Says whether a model still fails in the ability of `plan`; remembers every evaluation.

    Items are asked in doubling shares, and no more than it takes until a limit of the drop lies on one side of the
    margin. If all of them leave it open, the drop itself decides, and the evaluation is told as a near thing.
    """

    def __init__(self, run: PlanRun, plan: AbilityRow, told: Told | None = None) -> None:
        self.run, self.plan, self.told = run, plan, told
        self.evaluations: list[Evaluation] = []
        self.smallest: tuple[int, ...] = ()  # of the parts that were found to fail

    def fails(self, edits: MadeEdits, name: str) -> bool:
        """Whether the model still fails; `name` is what the report calls it."""
        wanted = self.run.audit.settings
        for limit in shares(wanted.limit):
            row = self.run.audit.under(edits, limit=limit).verdict(self.plan.ability, self.plan.margin)
            if row.lower > row.margin or row.upper <= row.margin:
                break
        return self.note(name, row)

    def part_fails(self, places: tuple[int, ...]) -> bool:
        """Whether a model with these edits only, by place in the plan, still fails."""
        name = f"edit {places[0] + 1}" if len(places) == 1 else f"{len(places)} edits, {_ranges(places)}"
        failed = self.fails(self.run.only(places), name)
        if failed and (not self.smallest or len(places) < len(self.smallest)):
            self.smallest = places
        return failed

    def note(self, name: str, row: AbilityRow) -> bool:
        """Remember what was found; whether that is a failure."""
        sure = row.lower > row.margin or row.upper <= row.margin
        one = Evaluation(name, row.drop, row.lower, row.upper, row.n, row.drop > row.margin, sure)
        self.evaluations.append(one)
        if self.told is not None:
            self.told(one)
        return one.failed


def shares(limit: int) -> tuple[int, ...]:
    """An eighth, a quarter, a half and all of the items, but not fewer than a few."""
    return tuple(dict.fromkeys(min(limit, max(FEWEST_ITEMS, limit // part)) for part in (8, 4, 2, 1)))


def _failing(run: PlanRun, abilities: Sequence[str]) -> AbilityRow:
    """The failing ability that drops most; of several, those that cannot be asked are passed over."""
    audit = run.audit.under(run.whole())
    rows: list[AbilityRow] = []
    for name in abilities:
        with suppress(UnaskedError) if len(abilities) > 1 else nullcontext():
            rows.append(audit.verdict(name, DEFAULT_MARGIN))
    failing = [row for row in rows if row.outcome == FAIL]
    if not failing:
        told = ", ".join(f"{row.named} {row.outcome} (drop {row.drop:.3f})" for row in rows) or "nothing could be asked"
        raise NothingToFind(f"the plan does not fail, so no edit is to blame: {told}.")
    return max(failing, key=lambda row: row.drop)


def _minimized(oracle: Oracle, start: tuple[int, ...], most: int) -> tuple[tuple[int, ...], bool]:
    """A smallest part that fails, and whether the search came to its end within `most` evaluations in all."""
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
    """On fresh items: the plan with these edits against the plan without, and the plan without against base."""
    taken = frozenset(places)
    rest = run.only([place for place in range(run.plan.count) if place not in taken])
    both = run.audit.under(run.side_by_side(rest, run.whole()), source=run.fresh())
    found = both.answers(plan.ability)
    without, with_them = found.edited
    seed = run.audit.settings.seed

    def row(before: Answers, after: Answers) -> AbilityRow:
        paired = PairedAnswers(found.ability, before, (after,))
        return compare(paired, paired.verdict(margin=plan.margin, seed=seed), margin=plan.margin)

    return row(without, with_them), row(found.base, without)


def _named(run: PlanRun, place: int) -> NamedEdit:
    request = run.changes.requests[place]
    return NamedEdit(place + 1, request.case_id, request.question, request.target_new)


def _ranges(places: Sequence[int]) -> str:
    """ "1 to 4, 9": numbers as a plan counts them."""
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][1] == place - 1:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    return ", ".join(f"{a + 1}" if a == b else f"{a + 1} to {b + 1}" for a, b in runs)
