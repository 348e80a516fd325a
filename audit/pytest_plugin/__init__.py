"""The pytest plugin of the audit: options, hooks and, from `fixtures`, the fixtures.

The plugin does nothing unless a collected test uses one of its fixtures. Nothing heavy is imported here; torch is
imported when audit tests were collected and are about to run. There are no assertions for pytest to rewrite, and a
conftest may import this module before pytest does (PYTEST_DONT_REWRITE).
"""

import gc
import os
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from audit.errors import AuditError
from audit.pytest_plugin import hooks
from audit.pytest_plugin.fixtures import (
    audit_run,
    degradation,
    edit_scores,
    integrity,
    is_audit_test,
    locality,
    will_audit,
)
from audit.pytest_plugin.flags import NAME, Flags
from audit.pytest_plugin.state import AUDIT_FACTORY, STATE, RunState
from audit.pytest_plugin.terminal import progress_on, show_section
from audit.pytest_plugin.xdist import Controller, Worker
from audit.settings.options import OPTIONS, settings_from
from audit.settings.project_defaults import with_project_defaults

if TYPE_CHECKING:
    from audit.audit import Audit
    from audit.reports.rows import RunReport

# pytest finds fixtures in the namespace of the plugin; a conftest imports the two keys from here.
__all__ = ["AUDIT_FACTORY", "STATE", "audit_run", "degradation", "edit_scores", "integrity", "locality"]


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add every option, as text, to one group; `pytest_configure` parses them."""
    pluginmanager.register(Flags(parser), NAME)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Let a conftest.py hand over abilities."""
    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Turn the options into settings, or end the run with one sentence and exit code 4."""
    typed = {option.name: config.getoption(f"audit_{option.name}") for option in OPTIONS}
    handed = [ability for some in config.hook.pytest_audit_abilities() for ability in some]
    typed["ability"] = [*handed, *(typed["ability"] or ())]
    try:
        settings = settings_from(with_project_defaults(typed, _project_folder(config)))
    except AuditError as error:
        raise pytest.UsageError(str(error)) from None
    command = " ".join(["pytest", *(str(word) for word in config.invocation_params.args)])
    state = config.stash[STATE] = RunState(settings, command)
    if settings.plan_only:
        from audit.pytest_plugin.preflight import PreflightMode

        config.pluginmanager.register(PreflightMode(state))
    if hasattr(config, "workerinput"):
        state.worker = Worker(config)
        config.pluginmanager.register(state.worker)
    elif config.pluginmanager.has_plugin("xdist"):
        state.controller = Controller(use_store=settings.use_store)
        config.pluginmanager.register(state.controller)


def _project_folder(config: pytest.Config) -> Path:
    """The folder of the project's pyproject.toml; pytest's root folder if there is none.

    pytest takes the values of plugin options for paths, so `--model /elsewhere` can move its root above the project.
    """
    root, start = config.rootpath, config.invocation_params.dir
    first = start / (config.args or [""])[0].partition("::")[0]  # none with --help
    folders = (root, first, *first.parents, start, *start.parents)
    return next((folder for folder in folders if (folder / "pyproject.toml").is_file()), root)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Load and check everything that the audit needs, before the first test runs."""
    state = session.config.stash[STATE]
    if state.settings.plan_only or not will_audit(session):
        return
    with state.usage_error():
        audit = _new_audit(session.config, state)
        audit.prepare()
        state.audit = audit
    # The objects that torch made at import are never freed; without this, every collection at exit visits them.
    gc.freeze()


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """The header of the run, below pytest's line about the collection."""
    audit = config.stash[STATE].audit
    if audit is None or config.get_verbosity() < 0:
        return []
    from audit.reports.github import log_text
    from audit.reports.run_sentences import header_lines

    return [log_text(line, os.environ) for line in (*header_lines(audit.header), *_notes_on_flags(config))]


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """Explain `assert degradation(...) == PASS` by the last verdict of the running test."""
    state = config.stash.get(STATE, None)
    if op != "==" or state is None or not state.rows or type(left).__module__.split(".")[0] != "audit":
        return None
    row = state.rows.get(os.environ.get("PYTEST_CURRENT_TEST", "").rsplit(" ", 1)[0])
    outcomes = [str(getattr(side, "value", side)) for side in (left, right)]
    if row is None or row.outcome not in outcomes:
        return None
    from audit.reports.github import log_text
    from audit.reports.run_sentences import explanation

    wanted = outcomes[1] if outcomes[0] == row.outcome else outcomes[0]
    return [log_text(line, os.environ) for line in explanation(row, wanted)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add example items to the report of a bad verdict, and note audit tests that fail for another reason."""
    report = yield
    state = item.config.stash[STATE]
    row = state.rows.get(item.nodeid)
    known = item.nodeid in state.unasked or (row is not None and row.outcome != "PASS")  # is in the audit's report
    if report.failed and is_audit_test(item) and not known:
        state.failed.append(item.nodeid)
    if row is not None and row.examples and report.when == "call" and report.failed:
        from audit.reports.github import log_text
        from audit.reports.run_sentences import examples

        report.sections.append((f"{row.ability}: what changed", log_text(examples(row), os.environ)))
    if report.when == "teardown" and state.worker is not None and state.audit is not None and state.fresh:
        from audit.reports.rows import RunReport

        state.worker.attach(report, RunReport(state.audit.header, **state.fresh))
        state.fresh = {}
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the report after the last test, and what a job of GitHub takes; an interrupted run writes none."""
    state = session.config.stash.get(STATE, None)
    maxfail = session.config.option.maxfail
    stopped = bool(maxfail) and session.testsfailed >= maxfail  # pytest-xdist reports -x as an interruption
    if state is None or not (stopped or exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)):
        return
    try:
        report = _report(state)
        if report is None:
            return
        if state.worker is not None:
            state.worker.send(report, measured=state.audit is not None and state.audit.measured)
            return
        state.report = replace(report, command=state.command)
        from audit.reports.folder import write_report
        from audit.reports.rows import RESTORED, UNCHANGED

        state.report = replace(state.report, folder=str(write_report(state.report, state.settings.reports)))
        unsound = {row.check for row in report.integrity if row.sound is False}
        if exitstatus == pytest.ExitCode.OK and unsound & {RESTORED, UNCHANGED}:  # no test need have looked at these
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    except AuditError as error:
        state.trouble = str(error)
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
    if state.report is not None:
        from audit.reports.github import publish

        state.job_lines = publish(state.report, os.environ)


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter", config: pytest.Config) -> None:
    """Show tables, verdict and advice; at -q only the line with the verdict."""
    state = config.stash.get(STATE, None)
    if state is None:
        return
    if state.report is not None:
        from audit.reports.run_sentences import header_lines
        from audit.reports.terminal import summary

        # The header is already above the tests, except under pytest-xdist, where the audits are in the workers.
        header = [*header_lines(state.report.header), *_notes_on_flags(config)] if state.audit is None else ()
        render = partial(summary, state.report)
        show_section(terminalreporter, config.get_verbosity(), "side-effect audit", header, render)
    if state.trouble:
        terminalreporter.write_line(f"ERROR: {state.trouble}", red=True)
    for line in state.job_lines:
        terminalreporter.write_line(line)


def _notes_on_flags(config: pytest.Config) -> list[str]:
    flags: Flags | None = config.pluginmanager.get_plugin(NAME)
    return [] if flags is None else flags.notes()


def _new_audit(config: pytest.Config, state: RunState) -> "Audit":
    if state.worker is not None:
        state.worker.limit_to_share(state.settings.device)
    factory = config.stash.get(AUDIT_FACTORY, None)
    if factory is None:
        from audit.audit import Audit

        factory = Audit
    audit = factory(state.settings)
    audit.watch(progress_on(config))
    if state.worker is not None and state.worker.store is not None:
        audit.share_folder(state.worker.store)
    return audit


def _report(state: RunState) -> "RunReport | None":
    """The results of this process, or those of the workers; None if nothing was measured."""
    if state.audit is None:
        return None if state.controller is None else state.controller.report()
    if not state.audit.measured and state.worker is None:
        return None
    return replace(state.audit.report(), failed_tests=tuple(dict.fromkeys(state.failed)))
