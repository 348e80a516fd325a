"""One report from those of several processes that audited the same model, each with its own tests.

report = merged([unpacked(text) for text in texts])    # texts: `packed(report)` of each process
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from audit.engine.reuse_counts import ReuseCounts
from audit.errors import AuditError
from audit.reports.json_report import items_from_jsonl, items_jsonl, report_from_json, verdict_json
from audit.reports.rows import AbilityRow, IntegrityRow, RunHeader, RunReport, usual_place
from audit.verdicts import FAIL, INCONCLUSIVE, PASS

WORST_FIRST = (FAIL, INCONCLUSIVE, PASS)


def packed(report: RunReport) -> str:
    """The report with its items as one ASCII text, for another process."""
    return json.dumps([verdict_json(report), items_jsonl(report.items)])


def unpacked(text: str) -> RunReport:
    """The report in a text that `packed` returned."""
    report, items = json.loads(text)
    return replace(report_from_json(report, origin="another process"), items=items_from_jsonl(items))


def merged(reports: Sequence[RunReport]) -> RunReport:
    """The union of the reports.

    Of two verdicts on the same ability the worse is kept, of two results of the same check the unsound one. The time of
    a stage is that of the slowest process; counts of reuse are added.

    Raises:
        AuditError: the reports are of different audits.
    """
    assert reports
    rows: dict[str, AbilityRow] = {}
    for row in (row for report in reports for row in report.abilities):
        rows[row.ability] = min(rows.get(row.ability, row), row, key=lambda one: WORST_FIRST.index(one.outcome))
    checks: dict[str, IntegrityRow] = {}
    most_checks_first = sorted(reports, key=lambda report: -len(report.integrity))  # it has them in the usual order
    for check in (check for report in most_checks_first for check in report.integrity):
        if check.check not in checks or check.sound is False:
            checks[check.check] = check
    stages = dict.fromkeys(stage for report in reports for stage in report.seconds)
    items = {(item.ability, item.key): item for report in reports for item in report.items}
    return RunReport(
        header=_one_header([report.header for report in reports]),
        abilities=tuple(sorted(rows.values(), key=lambda row: usual_place(row.ability))),
        edit_scores=tuple(
            {(score.measure, score.protocol): score for report in reports for score in report.edit_scores}.values()
        ),
        integrity=tuple(checks.values()),
        skipped=_united(report.skipped for report in reports),
        seconds={stage: max(report.seconds.get(stage, 0.0) for report in reports) for stage in stages},
        settings=_agreed("settings", [report.settings for report in reports]),
        fingerprints=_agreed("fingerprints", [report.fingerprints for report in reports]),
        versions=_agreed("versions", [report.versions for report in reports]),
        command=next((report.command for report in reports if report.command), ""),
        reuse=ReuseCounts.sum_of(report.reuse for report in reports),
        failed_tests=_united(report.failed_tests for report in reports),
        items=tuple(sorted(items.values(), key=lambda item: usual_place(item.ability))),
        unasked={ability: reason for report in reports for ability, reason in report.unasked.items()},
        edit_notes=_united(report.edit_notes for report in reports),
        collapse=next((report.collapse for report in reports if report.collapse), None),
    )


def _one_header(headers: Sequence[RunHeader]) -> RunHeader:
    """The common header, with the first start, all devices, and `patch_from` only if no process edited."""
    patches = [header.patch_from for header in headers]
    one = replace(
        headers[0],
        started=min(header.started for header in headers),
        device=", ".join(sorted({header.device for header in headers})),
        patch_from=None if None in patches else patches[0],
    )
    for name in (part.name for part in fields(RunHeader) if part.name not in ("started", "device", "patch_from")):
        values = {getattr(header, name) for header in headers}
        if len(values) > 1:
            raise _contradiction(name, values)
    return one


def _agreed(what: str, mappings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The union of the mappings; raises `AuditError` if a key has two values."""
    united: dict[str, Any] = {}
    for one in mappings:
        for key, value in one.items():
            if united.setdefault(key, value) != value:
                raise _contradiction(f"{what} ({key})", (united[key], value))
    return united


def _contradiction(what: str, values: Iterable[Any]) -> AuditError:
    both = " and ".join(sorted(map(repr, values)))
    return AuditError(f"the processes made different audits: their {what} are {both}; run the audit in one process.")


def _united(parts: Iterable[Sequence[Any]]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(one for part in parts for one in part))
