"""What a run supports, in two sentences that must not be mixed up, each with the error it keeps.

"Within the margins" is claimed for a whole run only if every ability passes. Claiming it wrongly takes an ability that
is beyond its margin and passes all the same, so no correction for their number is due (intersection-union). "Harmed at
all" is claimed of single names, picked from many, and every further name is a further chance to be wrong: so it is
corrected (Holm), over the abilities of a run, or over all abilities and points of a curve.
"""

from collections.abc import Sequence

from audit.reports.rows import AbilityRow, RunReport
from audit.verdicts import PASS
from audit.verdicts.alarm import alarms


def claims(report: RunReport) -> tuple[str, ...]:
    """The sentences that the verdicts of a run support; none where no ability was judged."""
    if not report.abilities:
        return ()
    passed = [row.named for row in report.abilities if row.outcome == PASS]
    if len(passed) == len(report.abilities) and not report.unasked:
        within = "All abilities are within their margins; with 95 % confidence, without correction, as all had to pass."
    elif passed:
        within = f"Within its margin, each with 95 % confidence by itself: {', '.join(passed)}."
    else:
        within = "Of no ability can it be said that it is within its margin."
    return within, harm_sentence(report)


def harm_sentence(report: RunReport) -> str:
    """Which abilities of a run were harmed at all, whatever their margins."""
    tested = [row for row in report.abilities if row.harm_p is not None]
    if not tested:
        return "Whether an ability was harmed at all, within its margin or not, was not tested."
    harmed = [one.name for one in report.alarms if one.harmed]
    if not harmed:
        return f"Of none of the {len(tested)} abilities tested is it certain that it was harmed at all (Holm)."
    over = "1 ability" if len(tested) == 1 else f"{len(tested)} abilities"
    return f"Certainly harmed, within the margin or not: {', '.join(harmed)} (95 %, Holm over {over})."


def curve_harm_sentence(points: Sequence[RunReport]) -> str:
    """From how many edits on each ability was certainly harmed, looking at all abilities and points at once."""
    tested: dict[str, tuple[int, AbilityRow]] = {}
    chances: dict[str, float] = {}
    for point in points:
        for row in point.abilities:
            if row.harm_p is not None:
                name = f"{row.ability} after {point.header.edit_count}"
                tested[name], chances[name] = (point.header.edit_count, row), row.harm_p
    first: dict[str, int] = {}
    for alarm in alarms(chances):
        count, row = tested[alarm.name]
        if alarm.harmed:
            first[row.named] = min(count, first.get(row.named, count))
    if not first:
        return f"At none of the {len(chances)} points tested is it certain that an ability was harmed at all (Holm)."
    told = ", ".join(f"{name} after {count}" for name, count in first.items())
    return (
        f"Certainly harmed, within the margin or not, first seen: {told} "
        f"(95 %, Holm over {len(chances)} abilities and points)."
    )
