"""The trend of a comparison of checkpoints in order: every ability against the base model and the checkpoint before."""

from collections.abc import Sequence

from audit.reports.rows import AbilityRow, RunReport
from audit.reports.verdict_sentences import MARKS, points


def trend_rows(report: RunReport) -> tuple[list[str], list[list[str]]]:
    """Headings and lines: one column for each checkpoint, and two lines for each ability.

    The first has the scores, each with the mark of its verdict against the base model; the second the change since the
    checkpoint before, where "!" marks a harm that was shown (95 %, Holm over the whole report).
    """
    harmed = {alarm.name for alarm in report.alarms if alarm.harmed}
    models = list(dict.fromkeys(row.model for row in report.abilities))
    tasks = list(dict.fromkeys(row.title for row in report.abilities))
    lines = []
    for task in tasks:
        rows, steps = (_by_model(part, task) for part in (report.abilities, report.steps))
        base = next(iter(rows.values())).verdict.base
        scores = [f"{rows[m].verdict.edited:.3f}{MARKS[rows[m].outcome]}" if m in rows else "-" for m in models]
        changes = [
            f"{points(-steps[m].verdict.drop)}{' !' if steps[m].ability in harmed else ''}" if m in steps else ""
            for m in models
        ]
        lines += [[task, f"{base:.3f}", *scores], ["  since the last", "", *changes]]
    return ["ability", "base", *models], lines


def _by_model(rows: Sequence[AbilityRow], task: str) -> dict[str, AbilityRow]:
    return {row.model: row for row in rows if row.title == task}
