"""An audit that measured everything beforehand: what the plugin shows and does can be tested without a model.

A test's conftest puts it in place of the real one:

    from audit.pytest_plugin import AUDIT_FACTORY
    from tests.pytest_plugin.fake_audit import FakeAudit
    def pytest_configure(config): config.stash[AUDIT_FACTORY] = FakeAudit
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from audit.errors import AuditError, CollapseError
from audit.reports.rows import AbilityRow, RunHeader, RunReport
from audit.settings.options import AuditSettings
from audit.verdicts.margins import SuiteMargins, margin_of
from tests.reports.sample import FAILED, HEADER, PASSED, REPORT, UNDECIDED, row_with

COLLAPSE = "The edited model has collapsed: some of its weights are NaN or infinite."
ROWS = {row.ability: row for row in (PASSED, FAILED, UNDECIDED)}


class FakeAudit:
    """sentiment passes, reasoning fails, summarization is undecided; the editor named 'broken' breaks while editing,
    and 'collapsed' leaves a collapsed model."""

    def __init__(self, settings: AuditSettings) -> None:
        self.settings = settings
        self.watcher: Any = None
        self.rows: dict[str, AbilityRow] = {}
        self.collapse: str | None = None

    def watch(self, watcher: Any) -> None:
        self.watcher = watcher

    def prepare(self) -> None:
        if self.settings.editor == "nobody":
            raise AuditError("there is no editor 'nobody'; choose from memit, rome.")

    @property
    def header(self) -> RunHeader:
        wanted = self.settings
        return replace(HEADER, editor=wanted.editor, model=wanted.model, seed=wanted.seed, limit=wanted.limit)

    @property
    def measured(self) -> bool:
        return bool(self.rows or self.collapse)

    def verdict(self, ability: str, max_drop: float | str = 0.05, keep: str = "90%", reading: str = "") -> AbilityRow:
        if self.settings.editor == "broken":
            raise AuditError("the subject 'Mara' is not in the prompt; mend request case-1.")
        if self.settings.editor == "collapsed" and self.settings.triage:
            self.collapse = COLLAPSE
            raise CollapseError(COLLAPSE)
        if self.watcher is not None:
            with self.watcher.stage(f"{ability}, edited") as done:
                done(1, 2)
        asked = self.settings.reading_of(ability)
        read = reading if asked == "auto" else asked
        suite = SuiteMargins(margin_of(max_drop), margin_of(keep))
        margin = self.settings.margins.get(ability) or suite.of(read)
        row = replace(ROWS[ability], reading=read)
        points = margin.at(row.verdict.base, row.verdict.floor)
        self.rows[ability] = row_with(row, margin=points, asked_margin=str(margin))
        return self.rows[ability]

    requests = ("one", "two")

    @property
    def control(self) -> bool:
        return self.settings.editor == "identity"

    edit_scores = SimpleNamespace(
        efficacy_autoregressive=SimpleNamespace(value=0.98),
        entries=lambda: [
            (score.measure, score.protocol, None if score.value is None else score) for score in REPORT.edit_scores
        ],
    )
    integrity = SimpleNamespace(
        sound=True, checks=[SimpleNamespace(name=row.check, **vars(row)) for row in REPORT.integrity]
    )

    def report(self) -> RunReport:
        return replace(
            REPORT, header=self.header, abilities=tuple(self.rows.values()), skipped=(), collapse=self.collapse
        )
