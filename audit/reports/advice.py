"""The last line of every report: what to do next."""

from audit.reports.rows import AbilityRow, RunReport
from audit.verdicts import FAIL, INCONCLUSIVE

EFFICACY_BAR = 0.9  # below this the edits did not succeed


def next_step(report: RunReport) -> str:
    """One sentence of advice, chosen by the worst finding of the report."""
    if report.collapse:
        return (
            f"Next: do not ship these weights; try {_smaller_edit(report)}, "
            "or measure what is left of each ability with --no-triage."
        )
    if not report.abilities and not report.unasked:
        return "Next: run a suite that tests an ability, for example `pytest suites/`."
    failed = sorted((row for row in report.abilities if row.outcome == FAIL), key=lambda row: -row.verdict.drop)
    if any(row.sound is False for row in report.integrity):
        lost = f", and {_names(failed)} failed" if failed else ", although no ability failed"
        return f"Next: do not ship these weights; they are damaged{lost}."
    if failed:
        worst = failed[0]
        where = f"in {report.folder}/items.jsonl" if report.folder else "with both answers in items.jsonl"
        return (
            f"Next: read the {worst.verdict.right_to_wrong} right-to-wrong flips of {worst.ability} {where}, "
            f"then try {_smaller_edit(report)}."
        )
    if report.unasked:
        return f"Next: fix the errors that kept {_listed(list(report.unasked))} from being asked (listed above)."
    undecided = [row for row in report.abilities if row.outcome == INCONCLUSIVE]
    if undecided:
        return _decide(undecided, report.header.limit)
    efficacy = report.edit_score("efficacy")
    if efficacy is not None and efficacy.value is not None and efficacy.value < EFFICACY_BAR:
        return (
            f"Next: the abilities passed, but the edits did not succeed (efficacy {efficacy.value:.2f}); "
            "try another editor or its --editor-config."
        )
    if report.failed_tests:
        return f"Next: see above why {report.failed_tests[0].rsplit('::', 1)[-1]} failed; the abilities passed."
    if report.header.checkpoint:
        return f"Next: list the changed weights with `{_diff(report)}`."
    return f"Next: find the number of edits at which an ability fails: --edit-count {_doubled(report)}."


def _decide(undecided: list[AbilityRow], limit: int) -> str:
    blind = [row for row in undecided if not row.verdict.assessable]
    if blind:
        return (
            f"Next: choose a --model that can do {_names(blind)}, or a larger --limit: "
            "the base model is not clearly above the floor."
        )
    stopped = [row for row in undecided if row.planned is not None]
    if stopped:
        return f"Next: run the audit again; it stopped before it asked the items that would settle {_names(stopped)}."
    more = [row.verdict.more_items for row in undecided if row.verdict.more_items is not None]
    if not more:
        return f"Next: accept a larger --margin for {_names(undecided)}; no affordable number of items would settle it."
    return f"Next: run again with --limit {limit + max(more)} to settle {_names(undecided)}."


def _doubled(report: RunReport) -> int:
    return max(2, 2 * report.header.edit_count)


def _diff(report: RunReport) -> str:
    return f"audit diff {report.header.model} {report.header.editor}"


def _smaller_edit(report: RunReport) -> str:
    if report.header.checkpoint:
        return f"`{_diff(report)}`"
    count = report.header.edit_count
    return f"--edit-count {max(1, count // 2)} or another editor" if count > 1 else "another editor or --editor-config"


def _names(rows: list[AbilityRow]) -> str:
    return _listed([row.ability for row in rows])


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
