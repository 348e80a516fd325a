"""The `--plan-only` mode of pytest: each suite shows what its items could certify. No model is loaded.

`audit.pytest_plugin` registers a `PreflightMode`, whose `degradation` replaces the usual one; other tests that use the
audit are skipped. The row of a test travels with its report, so that pytest-xdist's controller gets it too.
"""

from collections.abc import Callable, Generator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from audit.errors import AbilityError
from audit.pytest_plugin.fixtures import found_in, suite_folders, will_audit
from audit.pytest_plugin.state import AUDIT_FACTORY, RunState
from audit.pytest_plugin.terminal import show_section

if TYPE_CHECKING:
    from audit.workflows.preflight import Preflight

ROWS, UNASKED = "audit_preflight", "audit_unasked"  # attributes of a test report, which pytest-xdist sends along


class PreflightMode:
    """The hooks and the fixture of a run that asks nothing."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._preflight: Preflight | None = None
        self._fresh: dict[str, Any] = {}  # results of the running test
        self._rows: dict[str, dict[str, Any]] = {}  # by ability: the fields of an `AbilityPreflight`
        self._unasked: dict[str, str] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Check the data if any test audits."""
        if not will_audit(session):
            return
        with self._state.usage_error():
            self._preflight = self._made(session.config)
            self._preflight.check()

    @pytest.fixture
    def degradation(
        self, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
    ) -> Callable[..., NoReturn]:
        """A function that assesses the margin of an ability, and skips the test with the result."""
        folders = suite_folders(request)

        def assess(ability: str, max_drop: float | str, keep: str = "90%", reading: str = "") -> NoReturn:
            assert self._preflight is not None, "will_audit looks for this fixture"
            with self._state.clean_exit():
                try:
                    row = self._preflight.assess(found_in(folders, ability), max_drop, keep, reading)
                except AbilityError as error:
                    self._fresh[UNASKED] = dict(self._preflight.unasked)
                    pytest.skip(f"preflight only: {error}")
            self._fresh[ROWS] = {row.ability: asdict(row)}
            for name in ("items", "margin", "smallest_margin", "smallest_drop"):
                record_property(f"{row.ability}.{name}", getattr(row, name))
            pytest.skip(f"preflight only: {row.sentence}")

        return assess

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach the results of the test to its report."""
        report = yield
        for name, found in self._fresh.items():
            setattr(report, name, found)
        self._fresh = {}
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the results of a test that ran here or in a worker."""
        self._rows |= getattr(report, ROWS, {})
        self._unasked |= getattr(report, UNASKED, {})

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter", config: pytest.Config) -> None:
        """Show the table; at -q only its last line."""
        if not (self._rows or self._unasked):
            return
        from audit.reports.run_sentences import header_lines
        from audit.reports.workflows.preflight import AbilityPreflight, preflight_summary

        preflight = self._preflight or self._made(config)
        report = preflight.report([AbilityPreflight(**row) for row in self._rows.values()], self._unasked)
        title, header = "side-effect audit, preflight only", header_lines(report.header)
        show_section(terminalreporter, config.get_verbosity(), title, header, partial(preflight_summary, report))

    def _made(self, config: pytest.Config) -> "Preflight":
        """The preflight of this run, on the data of a conftest's own audit if there is one."""
        from audit.workflows.preflight import Preflight

        factory, settings = config.stash.get(AUDIT_FACTORY, None), self._state.settings
        return Preflight(settings, None if factory is None else factory(settings).source)
