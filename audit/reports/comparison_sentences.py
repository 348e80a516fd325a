"""Sentences about a comparison of results that existed before: the advice, and the note over a table of steps."""

from audit.reports.rows import AbilityRow, RunReport
from audit.verdicts import FAIL, INCONCLUSIVE


def comparison_advice(report: RunReport) -> str:
    """One sentence of advice, chosen by the worst finding."""
    failed = sorted((row for row in report.abilities if row.outcome == FAIL), key=lambda row: -row.verdict.drop)
    if failed:
        worst, where = failed[0], f"{report.folder}/items.jsonl" if report.folder else "items.jsonl"
        return f"Next: read the {worst.verdict.right_to_wrong} items of {worst.ability} whose score fell, in {where}."
    undecided = [row for row in report.abilities if row.outcome == INCONCLUSIVE]
    blind = [row for row in undecided if not row.verdict.assessable]
    if blind:
        return (
            f"Next: bring more items, or tasks that the base model can do: it is not clearly above the floor of "
            f"{_names(blind)}."
        )
    more = [row.verdict.more_items for row in undecided if row.verdict.more_items is not None]
    if more:
        return f"Next: evaluate about {max(more)} more items with both models to settle {_names(undecided)}."
    if undecided:
        return f"Next: accept a larger --margin for {_names(undecided)}; no affordable number of items would settle it."
    return "Next: keep the report beside the edited model; every ability is within its margin."


def trend_note(steps: int) -> str:
    """What a table of steps is for."""
    return (
        f"Each checkpoint is also compared with the one before it: {steps} further comparisons, which decide nothing. "
        "The outcome is about the base model, from which small steps may add up."
    )


def _names(rows: list[AbilityRow]) -> str:
    names = [row.ability for row in rows]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
