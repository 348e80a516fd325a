"""The last line of every report: the one thing to do next."""

from audit.reports.rows import AbilityRow, RunReport
from audit.verdicts import FAIL, INCONCLUSIVE

EFFICACY_BAR = 0.9  # below this the edits cannot be said to have taken


def next_step(report: RunReport) -> str:
    """One sentence that says what to do next, from the worst thing the report holds down to the best."""
    if report.collapse:
        return (
            f"Next: do not ship these weights; try {_smaller_edit(report)}, "
            "or see what is left of each ability with --no-triage."
        )
    if not report.abilities and not report.unasked:
        return "Next: run a suite that asks an ability, for example `pytest suites/`."
    failed = sorted((row for row in report.abilities if row.outcome == FAIL), key=lambda row: -row.drop)
    if any(row.sound is False for row in report.integrity):
        lost = f", and {_names(failed)} went with them" if failed else ", even where the abilities do not show it"
        return f"Next: do not ship these weights; they are damaged{lost}."
    if failed:
        worst = failed[0]
        where = f"in {report.folder}/items.jsonl" if report.folder else "with both answers in items.jsonl"
        return (
            f"Next: read the {worst.right_to_wrong} right-to-wrong flips of {worst.ability} {where}, "
            f"then try {_smaller_edit(report)}."
        )
    if report.unasked:
        return f"Next: mend what kept {' and '.join(report.unasked)} from being asked; the sentence is above."
    undecided = [row for row in report.abilities if row.outcome == INCONCLUSIVE]
    if undecided:
        return _decide(undecided, report.header.limit)
    efficacy = efficacy_of(report)
    if efficacy is not None and efficacy < EFFICACY_BAR:
        return (
            f"Next: the abilities held, but the edits did not take (efficacy {efficacy:.2f}); "
            "try another editor or its --editor-config."
        )
    if report.failed_tests:
        return f"Next: see above why {report.failed_tests[0].rsplit('::', 1)[-1]} failed; the abilities held."
    if report.header.checkpoint:
        return f"Next: see what was changed with `{_diff(report)}`."
    return f"Next: find where it breaks with --edit-count {max(2, 2 * report.header.edit_count)}."


def efficacy_of(report: RunReport) -> float | None:
    """The autoregressive efficacy, where it was measured."""
    found = [s.value for s in report.edit_scores if s.measure == "efficacy" and s.protocol == "autoregressive"]
    return found[0] if found else None


def _decide(undecided: list[AbilityRow], limit: int) -> str:
    blind = [row for row in undecided if not row.assessable]
    if blind:
        return (
            f"Next: choose a --model that can do {_names(blind)}, or a larger --limit: "
            "the base model is not clearly above chance there."
        )
    stopped = [row for row in undecided if row.planned is not None]
    if stopped:
        return f"Next: run the audit again: it stopped before it had asked what would settle {_names(stopped)} now."
    more = [row.more_items for row in undecided if row.more_items is not None]
    if not more:
        return f"Next: accept a larger --margin for {_names(undecided)}; no affordable number of items would settle it."
    return f"Next: run again with --limit {limit + max(more)} to settle {_names(undecided)}."


def _diff(report: RunReport) -> str:
    return f"audit diff {report.header.model} {report.header.editor}"


def _smaller_edit(report: RunReport) -> str:
    if report.header.checkpoint:
        return f"`{_diff(report)}`"
    count = report.header.edit_count
    return f"--edit-count {max(1, count // 2)} or another editor" if count > 1 else "another editor or --editor-config"


def _names(rows: list[AbilityRow]) -> str:
    names = [row.ability for row in rows]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
