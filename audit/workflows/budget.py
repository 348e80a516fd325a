"""How many edits are safe: the largest number for which all abilities PASS, and what that is worth."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from audit.abilities import ABILITIES
from audit.abilities.data.origin import Source
from audit.errors import UnaskedError
from audit.reports.rows import AbilityRow
from audit.reports.workflows.budget import Budget, Look
from audit.workflows.edit_counts import largest_passing
from audit.workflows.edit_subsets import MadeEdits, PlanRun

Told = Callable[[Look], None]


def find_budget(
    run: PlanRun, abilities: Sequence[str] | None = None, *, recheck: int = 2, told: Told | None = None
) -> Budget:
    """Doubling up to the first number of edits that does not pass, bisection, `recheck` numbers below, confirmation.

    The number that is found is judged once more on items that no look asked, where there are any: that verdict is
    not weakened by having looked often. `told` gets each look as it is taken.
    """
    names = tuple(abilities or ABILITIES)
    looks: list[Look] = []

    def judged(edits: MadeEdits, source: Source | None = None) -> tuple[AbilityRow, ...]:
        audit = run.audit.under(edits, source=source)
        return tuple(replace(audit.verdict(name), examples=()) for name in names)

    def passes(count: int) -> bool:
        look = Look(count, judged(run.first(count)))
        looks.append(look)
        if told is not None:
            told(look)
        return look.passed

    found = largest_passing(run.counts, passes, recheck)
    confirmation: tuple[AbilityRow, ...] = ()
    if found.largest:
        with suppress(UnaskedError):  # no items are left; the result says that it is not confirmed
            confirmation = judged(run.first(found.largest), run.fresh())
    return Budget(run.audit.header, found.largest, tuple(looks), confirmation, run.counts)
