"""pytest under `--plan-only`: the suites run, and each says what it would ask instead of asking. No model is loaded.

`audit.pytest_plugin` then registers a `PreflightMode`, whose `degradation` replaces the plugin's own; other tests that
use the audit are skipped. The row of a test travels with its report, so that pytest-xdist's controller gets it too.
"""

from collections.abc import Callable, Generator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from audit.errors import AuditError, UnaskedError
from audit.pytest_plugin.terminal_section import show_section

if TYPE_CHECKING:
    from audit.pytest_plugin import PluginState
    from audit.workflows.preflight import Preflight

PLANNED, UNASKED = "audit_planned", "audit_not_to_be_asked"  # what passes between the processes, by name


class PreflightMode:
    """The hooks and the fixture of a run that asks nothing. `state` is what the plugin's hooks share."""

    def __init__(self, state: "PluginState") -> None:
        self._state = state
        self._preflight: Preflight | None = None
        self._fresh: dict[str, Any] = {}  # what the running test planned
        self._planned: dict[str, dict[str, Any]] = {}  # by ability: the fields of an `AbilityPreflight`
        self._unasked: dict[str, str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Check the data, and nothing else, if any test audits."""
        from audit.pytest_plugin import FIXTURES

        audits = any(not FIXTURES.isdisjoint(getattr(item, "fixturenames", ())) for item in session.items)
        if session.config.getoption("collectonly") or not audits:
            return
        try:
            self._preflight = _preflight(session.config, self._state)
            self._preflight.check()
        except AuditError as error:
            if self._state.worker is None:
                raise pytest.UsageError(str(error)) from None
            self._state.worker.refuse(error)

    @pytest.fixture
    def degradation(self, record_property: Callable[[str, object], None]) -> Callable[[str, float | str], NoReturn]:
        """Says what an ability could tell about a margin, and skips the test."""

        def plan(ability: str, max_drop: float | str) -> NoReturn:
            assert self._preflight is not None, "the collected tests were looked through for this fixture"
            try:
                planned = self._preflight.assess(ability, max_drop)
            except UnaskedError as error:
                self._fresh[UNASKED] = {ability: self._preflight.unasked[ability]}
                pytest.skip(f"preflight only: {error}")
            except AuditError as error:
                if self._state.worker is not None:
                    self._state.worker.refuse(error)
                pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
            self._fresh[PLANNED] = {ability: asdict(planned)}
            for name in ("items", "margin", "smallest_margin", "smallest_drop"):
                record_property(f"{ability}.{name}", getattr(planned, name))
            pytest.skip(f"preflight only: {planned.sentence}")

        return plan

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put what the test planned into its report."""
        report = yield
        for name, found in self._fresh.items():
            setattr(report, name, found)
        self._fresh = {}
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect what tests planned, here or in a worker."""
        self._planned |= getattr(report, PLANNED, {})
        self._unasked |= getattr(report, UNASKED, {})

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter", config: pytest.Config) -> None:
        """Show the plan; at -q its last line only."""
        if not (self._planned or self._unasked):
            return
        from audit.reports.workflows.preflight import AbilityPreflight, preflight_summary

        preflight = self._preflight or _preflight(config, self._state)
        report = preflight.report([AbilityPreflight(**row) for row in self._planned.values()], self._unasked)
        title, header = "side-effect audit, preflight only", report.header.lines()
        show_section(terminalreporter, config.get_verbosity(), title, header, partial(preflight_summary, report))


def _preflight(config: pytest.Config, state: "PluginState") -> "Preflight":
    """The plan of this run, on a conftest's own data if it has some."""
    from audit.pytest_plugin import AUDIT_FACTORY
    from audit.workflows.preflight import Preflight

    factory = config.stash.get(AUDIT_FACTORY, None)
    return Preflight(state.settings, None if factory is None else factory(state.settings).source)
