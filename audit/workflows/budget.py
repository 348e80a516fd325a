"""The largest number of edits with which all abilities PASS, confirmed on items that the search did not use.

largest_passing((1, 2, 3, 4), passes=lambda count: count < 4)       # 3
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from audit.abilities.data import Source
from audit.errors import AbilityError
from audit.reports.rows import AbilityRow
from audit.reports.workflows.budget import Budget, Look
from audit.workflows.curve import between, doubling
from audit.workflows.edit_subsets import EditSubset, PlanRun


def find_budget(
    run: PlanRun,
    abilities: Sequence[str] | None = None,
    *,
    recheck: int = 2,
    show: Callable[[Look], None] | None = None,
) -> Budget:
    """The budget of an edit plan: doubling, bisection, `recheck` smaller numbers, and a confirmation.

    The confirmation is a verdict on fresh items, if there are any, which the many looks do not weaken. `show` gets each
    look as soon as it is taken.
    """
    names = tuple(abilities or run.audit.settings.abilities.asked)
    looks: list[Look] = []

    def judged(edits: EditSubset, source: Source | None = None) -> tuple[AbilityRow, ...]:
        audit = run.audit.under(edits, source=source)
        return tuple(replace(audit.verdict(name), examples=()) for name in names)

    def passes(count: int) -> bool:
        look = Look(count, judged(run.first(count)))
        looks.append(look)
        if show is not None:
            show(look)
        return look.passed

    largest = largest_passing(run.counts, passes, recheck)
    confirmation: tuple[AbilityRow, ...] = ()
    if largest:
        with suppress(AbilityError):  # without fresh items the budget is unconfirmed
            confirmation = judged(run.first(largest), run.fresh())
    return Budget(run.audit.header, largest, tuple(looks), confirmation, run.counts)


def largest_passing(allowed: Sequence[int], passes: Callable[[int], bool], recheck: int = 0) -> int:
    """The largest allowed number that passes, as do all smaller numbers that were tried, while the next one fails.

    The result is 0 if even the smallest number fails. Each number is tried at most once. Passing need not be monotone:
    after doubling to the first failure and bisection, `recheck` numbers between half the result and the result are
    tried as well; a failure lowers the result, and the gap below it is bisected.
    """
    looks: dict[int, bool] = {}

    def look(count: int) -> bool:
        if count not in looks:
            looks[count] = passes(count)
        return looks[count]

    def largest() -> int:
        failing = min((count for count, passed in looks.items() if not passed), default=allowed[-1] + 1)
        low = max((count for count in looks if count < failing), default=0)
        while failing <= allowed[-1] and (middle := between(allowed, low, failing)) is not None:
            if look(middle):
                low = middle
            else:
                failing = middle
        return low

    for count in doubling(allowed):
        if not look(count):
            break
    found = largest()
    left = recheck
    while left > 0:
        band = [count for count in allowed if found / 2 <= count < found and count not in looks]
        if not band:
            break
        left -= 1
        chosen = band[len(band) * left // max(1, recheck)] if left else band[0]
        if not look(chosen):
            found = largest()
    return found
