"""Ability scores and edit scores against the number of edits, and the numbers at which to measure them.

next_count({1: "PASS", 2: "FAIL"}, allowed=(1, 2, 3, 4))     # 4: doubling goes on to the end
"""

import bisect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from audit.reports.rows import RunReport
from audit.workflows.edit_subsets import PlanRun


def measure_curve(
    run: PlanRun,
    abilities: Sequence[str] | None = None,
    *,
    refine: int = 4,
    show: Callable[[RunReport], None] | None = None,
) -> tuple[RunReport, ...]:
    """Reports after 1, 2, 4, ... edits and after all, and then after at most `refine` more numbers of edits.

    The extra numbers are between two with different verdicts. Each report has the immediate efficacy (right after an
    edit's own step) and that of all edits so far, measured at the end. Items are left out. The result is in the order
    of the numbers of edits; `show` gets each report as soon as it is measured.
    """
    found: dict[int, RunReport] = {}
    most = len(doubling(run.counts)) + refine
    while len(found) < most:
        outcomes = {count: tuple(row.outcome for row in report.abilities) for count, report in found.items()}
        count = next_count(outcomes, run.counts)
        if count is None:
            break
        found[count] = replace(run.audit.under(run.first(count)).run(abilities), items=())
        if show is not None:
            show(found[count])
    return tuple(found[count] for count in sorted(found))


def doubling(allowed: Sequence[int]) -> tuple[int, ...]:
    """1, 2, 4, ... and the last of `allowed` (ascending), each rounded up to an allowed number."""
    found: dict[int, None] = {}
    count = 1
    while count < allowed[-1]:
        found[allowed[bisect.bisect_left(allowed, count)]] = None
        count *= 2
    found[allowed[-1]] = None
    return tuple(found)


def between(allowed: Sequence[int], low: int, high: int) -> int | None:
    """The middle one of the allowed numbers strictly between `low` and `high`; None if there is none."""
    inside = allowed[bisect.bisect_right(allowed, low) : bisect.bisect_left(allowed, high)]
    return inside[len(inside) // 2] if inside else None


def next_count(seen: Mapping[int, Hashable], allowed: Sequence[int]) -> int | None:
    """The next number of edits: first those of `doubling`, then the middle of the widest gap with a change in it.

    `seen` maps each number so far to its result; a gap between equal results has no change. The width of a gap is the
    ratio of its ends, as on a logarithmic axis. None if no gap is left.
    """
    for count in doubling(allowed):
        if count not in seen:
            return count
    counts = sorted(seen)
    gaps = [(low, high) for low, high in pairwise(counts) if seen[low] != seen[high]]
    for low, high in sorted(gaps, key=lambda gap: -gap[1] / gap[0]):
        middle = between(allowed, low, high)
        if middle is not None:
            return middle
    return None
