"""The pytest face of the audit: options, fixtures, and the summary. It is silent unless a collected test audits.

Nothing heavy is imported here; torch arrives when audit tests were collected and are about to run.
"""

import gc
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from audit.errors import AuditError, CollapsedError, UnaskedError
from audit.pytest_plugin.terminal_section import show_section
from audit.pytest_plugin.xdist import Controller, Worker
from audit.settings.options import OPTIONS, AuditSettings, settings_from
from audit.settings.project_defaults import with_project_defaults

if TYPE_CHECKING:
    from audit.answering.locality import Locality
    from audit.audit import Audit
    from audit.reports.rows import AbilityRow, RunReport
    from audit.verdicts import Outcome

FIXTURES = frozenset({"audit_run", "degradation", "edit_scores", "integrity", "locality"})


@dataclass
class PluginState:
    """What the hooks of one pytest run share."""

    settings: AuditSettings
    command: str
    audit: "Audit | None" = None
    asked: "dict[str, AbilityRow]" = field(default_factory=dict)  # by node id: the verdict a test asked for last
    unasked: set[str] = field(default_factory=set)  # node ids of tests whose ability was not asked
    failed: list[str] = field(default_factory=list)  # node ids of audit tests that failed without a bad verdict
    report: "RunReport | None" = None
    trouble: str = ""  # why no report could be written
    worker: Worker | None = None  # under pytest-xdist: this process runs some of the tests
    controller: Controller | None = None  # ... or hears of those that others run
    fresh: dict[str, Any] = field(default_factory=dict)  # what the running test found, by part of a report

    def found(self, part: str, *rows: Any) -> None:
        self.fresh[part] = (*self.fresh.get(part, ()), *rows)


STATE = pytest.StashKey[PluginState]()
#: A conftest may put its own `settings -> Audit` here, for example to audit on its own data (`Audit(source=...)`).
AUDIT_FACTORY = pytest.StashKey[Callable[[AuditSettings], "Audit"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Every option, as text, in one group; `pytest_configure` reads them."""
    group = parser.getgroup("audit", "side-effect audit of an edited language model")
    for option in OPTIONS:
        how: dict[str, Any] = {
            "dest": f"audit_{option.name}",
            "help": option.help_line.replace("%", "%%"),
            "default": None,
        }
        if option.switch:
            how["action"] = "store_true"
        else:
            how["action"] = "append" if option.repeatable else "store"
            how["metavar"] = option.metavar
        group.addoption(option.flag, **how)


def pytest_configure(config: pytest.Config) -> None:
    """Turn the options into settings, or end the run with one sentence and exit code 4."""
    typed = {option.name: config.getoption(f"audit_{option.name}") for option in OPTIONS}
    with _usage_error():
        settings = settings_from(with_project_defaults(typed, config.rootpath))
    command = " ".join(["pytest", *(str(word) for word in config.invocation_params.args)])
    state = config.stash[STATE] = PluginState(settings, command)
    if settings.plan_only:
        from audit.pytest_plugin.preflight import PreflightMode

        config.pluginmanager.register(PreflightMode(state))
    if hasattr(config, "workerinput"):
        state.worker = Worker(config)
        config.pluginmanager.register(state.worker)
    elif config.pluginmanager.has_plugin("xdist"):
        state.controller = Controller(use_store=settings.use_store)
        config.pluginmanager.register(state.controller)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Load and check everything the audit needs, before the first test runs."""
    config = session.config
    state = config.stash[STATE]
    if config.getoption("collectonly") or state.settings.plan_only or not any(map(_audits, session.items)):
        return
    with _usage_error(state.worker):
        audit = _new_audit(config, state)
        audit.prepare()
        state.audit = audit
    # What the heavy imports made lives as long as the process: nobody need walk through it again, least of all at exit.
    gc.freeze()


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """The header: what is audited and how. It stands below the collection, for only then is it known to be wanted."""
    audit = config.stash[STATE].audit
    return audit.header.lines() if audit is not None and config.get_verbosity() >= 0 else []


@pytest.fixture(scope="session")
def audit_run(pytestconfig: pytest.Config) -> "Audit":
    """The audit of this run: the model, edited once, and everything measured so far."""
    if pytestconfig.stash[STATE].settings.plan_only:
        pytest.skip("preflight only")
    audit = pytestconfig.stash[STATE].audit
    if audit is None:
        pytest.fail("the audit was not prepared: ask for its fixtures in a test's arguments, not by name at run time")
    return audit


class Degradation:
    """Asks one ability of base and edited model: `degradation("ner", max_drop=0.05) == PASS`."""

    def __init__(self, audit: "Audit", state: PluginState, test: str, record: Callable[[str, object], None]) -> None:
        self._audit = audit
        self._state = state
        self._test = test
        self._record = record

    def __call__(self, ability: str, max_drop: float | str) -> "Outcome":
        """Judge the ability. `max_drop` is the margin, in score points (0.05) or as a share to be retained ("90%");
        `--margin ner=0.03` overrides it.

        INCONCLUSIVE skips the test under `--inconclusive skip`.
        """
        from audit.verdicts import Outcome

        with _clean_exit(self._state):
            try:
                row = self._audit.verdict(ability, max_drop=max_drop)
            except (UnaskedError, CollapsedError) as error:
                self._state.unasked.add(self._test)
                if isinstance(error, CollapsedError):
                    self._state.fresh["collapse"] = self._audit.collapse
                raise pytest.fail.Exception(str(error), pytrace=False) from None  # once, without its causes
        self._state.asked[self._test] = row
        self._state.found("abilities", row)
        for name in ("base", "edited", "drop", "lower", "upper", "margin", "n", "outcome", "protocol"):
            self._record(f"{ability}.{name}", getattr(row, name))
        outcome = Outcome(row.outcome)
        if outcome is Outcome.INCONCLUSIVE and self._state.settings.inconclusive == "skip":
            pytest.skip(row.sentence)
        return outcome

    def __repr__(self) -> str:
        return f"<degradation by {self._state.settings.editor} of {self._state.settings.model}>"


@pytest.fixture
def degradation(
    audit_run: "Audit", request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Degradation:
    """A function that judges one ability: `degradation("ner", max_drop=0.05) == PASS`."""
    return Degradation(audit_run, request.config.stash[STATE], request.node.nodeid, record_property)


@pytest.fixture
def edit_scores(audit_run: "Audit", pytestconfig: pytest.Config, record_property: Callable[[str, object], None]) -> Any:
    """How well the edit itself did: `audit.measures.edit_success.EditScores`."""
    if not audit_run.requests:
        pytest.skip("which edits the checkpoint holds is not known: name their file with --edits")
    state = pytestconfig.stash[STATE]
    with _clean_exit(state):
        scores = audit_run.edit_scores
        rows = audit_run.edit_score_rows()
    state.found("edit_scores", *rows)
    for row in rows:
        record_property(f"{row.measure}.{row.protocol}", row.value)
    return scores


@pytest.fixture
def integrity(audit_run: "Audit", pytestconfig: pytest.Config, record_property: Callable[[str, object], None]) -> Any:
    """Whether the edited weights are sound: `audit.measures.integrity.Integrity`."""
    state = pytestconfig.stash[STATE]
    with _clean_exit(state):
        found = audit_run.integrity
        rows = audit_run.integrity_rows()
    state.found("integrity", *rows)
    for row in rows:
        record_property(f"integrity.{row.check}", row.value)
    return found


@pytest.fixture(scope="session")
def locality(audit_run: "Audit", pytestconfig: pytest.Config) -> "Locality":
    """Base and edited models side by side, after prompts about what no edit touched."""
    with _clean_exit(pytestconfig.stash[STATE]):
        return audit_run.locality


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """Explain `assert degradation(...) == PASS` by the verdict that the running test asked for last."""
    state = config.stash.get(STATE, None)
    if op != "==" or state is None or not state.asked or type(left).__module__.split(".")[0] != "audit":
        return None
    row = state.asked.get(os.environ.get("PYTEST_CURRENT_TEST", "").rsplit(" ", 1)[0])
    outcomes = [str(getattr(side, "value", side)) for side in (left, right)]
    if row is None or row.outcome not in outcomes:
        return None
    from audit.reports.explanation import explanation

    wanted = outcomes[1] if outcomes[0] == row.outcome else outcomes[0]
    return explanation(row, wanted)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the example items, in full, under a failing verdict; remember audit tests that fail for another reason."""
    report = yield
    state = item.config.stash[STATE]
    row = state.asked.get(item.nodeid)
    told = item.nodeid in state.unasked or (row is not None and row.outcome != "PASS")  # the report says so itself
    if report.failed and _audits(item) and not told:
        state.failed.append(item.nodeid)
    if row is not None and row.examples and report.when == "call" and report.failed:
        from audit.reports.explanation import examples

        report.sections.append((f"{row.ability}: what changed", examples(row)))
    if report.when == "teardown" and state.worker is not None and state.audit is not None and state.fresh:
        from audit.reports.rows import RunReport

        state.worker.attach(report, RunReport(state.audit.header, **state.fresh))
        state.fresh = {}
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the report, whole, once the last test is done; an interrupted or refused run writes none."""
    state = session.config.stash.get(STATE, None)
    maxfail = session.config.option.maxfail
    stopped = bool(maxfail) and session.testsfailed >= maxfail  # pytest-xdist takes -x for an interruption
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
        state.report = replace(state.report, folder=str(state.report.save(state.settings.reports)))
    except AuditError as error:
        state.trouble = str(error)
        session.exitstatus = pytest.ExitCode.USAGE_ERROR


def _report(state: PluginState) -> "RunReport | None":
    """What this process found, or what the workers did; None where nothing was measured."""
    if state.audit is None:
        return None if state.controller is None else state.controller.report()
    if not state.audit.measured and state.worker is None:
        return None
    return replace(state.audit.report(), failed_tests=tuple(dict.fromkeys(state.failed)))


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter", config: pytest.Config) -> None:
    """Show the tables, the verdict line and what to do next; at -q the verdict line only."""
    state = config.stash.get(STATE, None)
    if state is None:
        return
    if state.report is not None:
        from audit.reports.terminal import summary

        # The header stands above the tests already, but where no single process could tell it there.
        header = state.report.header.lines() if state.audit is None else ()
        render = partial(summary, state.report)
        show_section(terminalreporter, config.get_verbosity(), "side-effect audit", header, render)
    if state.trouble:
        terminalreporter.write_line(f"ERROR: {state.trouble}", red=True)


def _audits(item: pytest.Item) -> bool:
    return not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def _new_audit(config: pytest.Config, state: PluginState) -> "Audit":
    if state.worker is not None:
        state.worker.take_place(state.settings.device)
    factory = config.stash.get(AUDIT_FACTORY, None)
    if factory is None:
        from audit.audit import Audit

        factory = Audit
    audit = factory(state.settings)
    audit.watch(_watcher(config))
    if state.worker is not None and state.worker.store is not None:
        audit.share_folder(state.worker.store)
    return audit


def _watcher(config: pytest.Config) -> Any:
    """Progress on a terminal, with pytest's capture stepped aside; None where there is no terminal."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.isatty or config.get_verbosity() < 0 or os.environ.get("TERM") == "dumb":
        return None
    from audit.reports.progress import TerminalProgress

    capture = config.pluginmanager.get_plugin("capturemanager")

    def suspend() -> AbstractContextManager[None]:
        return nullcontext() if capture is None else capture.global_and_fixture_disabled()

    writer = reporter._tw
    return TerminalProgress(
        writer._file, suspend=suspend, column=lambda: writer.width_of_current_line, color=writer.hasmarkup
    )


@contextmanager
def _usage_error(worker: Worker | None = None) -> Iterator[None]:
    """Before the tests: pytest prints the sentence and exits with 4; a worker has it said by the controller."""
    try:
        yield
    except AuditError as error:
        if worker is None:
            raise pytest.UsageError(str(error)) from None
        worker.refuse(error)


@contextmanager
def _clean_exit(state: PluginState) -> Iterator[None]:
    """Within a test: the whole run ends with the sentence and exit code 4, since no other test could do better."""
    try:
        yield
    except AuditError as error:
        if state.worker is not None:
            state.worker.refuse(error)
        pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)
