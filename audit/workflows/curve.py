"""What more edits cost: every ability and the edits' own scores against the number of edits."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from audit.reports.rows import RunReport
from audit.workflows.edit_counts import doubling, next_count
from audit.workflows.edit_subsets import PlanRun

Told = Callable[[RunReport], None]


def measure_curve(
    run: PlanRun, abilities: Sequence[str] | None = None, *, refine: int = 4, told: Told | None = None
) -> tuple[RunReport, ...]:
    """A report after 1, 2, 4, ... edits and all of them, then at most `refine` more where a verdict changes.

    Each tells of immediate efficacy (right after an edit's own step) beside that of all edits so far, asked at the
    end. In the order of the numbers of edits; `told` gets each as it is measured. Items are left out.
    """
    seen: dict[int, RunReport] = {}
    most = len(doubling(run.counts)) + refine
    while len(seen) < most:
        outcomes = {count: tuple(row.outcome for row in report.abilities) for count, report in seen.items()}
        count = next_count(outcomes, run.counts)
        if count is None:
            break
        seen[count] = replace(run.audit.under(run.first(count)).run(abilities), items=())
        if told is not None:
            told(seen[count])
    return tuple(seen[count] for count in sorted(seen))
