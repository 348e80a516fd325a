"""The fixtures of the audit, which suites take as arguments."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from audit.errors import AbilityError, CollapseError, NoChangeError
from audit.pytest_plugin.state import STATE, RunState

if TYPE_CHECKING:
    from audit.answering.locality import Locality
    from audit.audit import Audit
    from audit.verdicts import Outcome

FIXTURES = frozenset({"audit_run", "degradation", "edit_scores", "integrity", "locality"})


def is_audit_test(item: pytest.Item) -> bool:
    """Whether the test uses a fixture of the audit."""
    return not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def will_audit(session: pytest.Session) -> bool:
    """Whether any of the collected tests uses the audit and is going to run."""
    return not session.config.getoption("collectonly") and any(map(is_audit_test, session.items))


@pytest.fixture(scope="session")
def audit_run(pytestconfig: pytest.Config) -> "Audit":
    """The audit of this run: the model, edited once, and everything measured so far."""
    state = pytestconfig.stash[STATE]
    if state.settings.plan_only:
        pytest.skip("preflight only")
    if state.audit is None:
        pytest.fail("the audit was not prepared: take its fixtures as arguments of the test, not by getfixturevalue")
    return state.audit


@dataclass(frozen=True, repr=False)
class Degradation:
    """Judges one ability of the edited model: `degradation("ner", max_drop=0.05) == PASS`.

    `test` is the node id of the running test, `record` pytest's `record_property`. The path of an ability that begins
    with a dot is relative to one of the `folders`, the first in which there is such a file.
    """

    audit: "Audit"
    state: RunState
    test: str
    folders: tuple[Path, ...]
    record: Callable[[str, object], None]

    def __call__(self, ability: str, max_drop: float | str, keep: str = "90%", reading: str = "") -> "Outcome":
        """The outcome for the ability, which is a name, or the file or class of an ability of one's own.

        `max_drop` is the margin in score points (0.05) or as the share to keep ("90%"). Where the ability is read by
        likelihood, the margin is the share to `keep`. `--margin ner=0.03` overrides both. `reading` is "answers",
        "choices", "calibrated" or "likelihood"; `--reading` overrides it, and "" chooses one on the base model.

        INCONCLUSIVE skips the test under `--inconclusive skip`.
        """
        from audit.reports.github import log_text
        from audit.reports.junit import properties
        from audit.verdicts import Outcome

        with self.state.clean_exit():
            try:
                row = self.audit.verdict(found_in(self.folders, ability), max_drop=max_drop, keep=keep, reading=reading)
            except (AbilityError, CollapseError, NoChangeError) as error:
                self.state.unasked.add(self.test)
                if isinstance(error, CollapseError):
                    self.state.fresh["collapse"] = self.audit.collapse
                text = log_text(str(error), os.environ)  # it may quote a row
                raise pytest.fail.Exception(text, pytrace=False) from None  # without the chain of causes
        self.state.rows[self.test] = row
        self.state.add("abilities", row)
        for name, value in properties(row).items():
            self.record(name, value)
        outcome = row.outcome
        if outcome is Outcome.INCONCLUSIVE and self.state.settings.inconclusive == "skip":
            pytest.skip(row.sentence)
        return outcome

    def __repr__(self) -> str:
        return f"<degradation by {self.state.settings.editor} of {self.state.settings.model}>"


@pytest.fixture
def degradation(
    audit_run: "Audit", request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Degradation:
    """A function that judges one ability: `degradation("ner", max_drop=0.05) == PASS`."""
    state, test = request.config.stash[STATE], request.node.nodeid
    return Degradation(audit_run, state, test, suite_folders(request), record_property)


def suite_folders(request: pytest.FixtureRequest) -> tuple[Path, ...]:
    """The folders that a path in the running suite can be relative to: where pytest was started, its root, the suite's.

    Without an ini file, the root folder is the common one of all paths on the command line, so it alone is not enough.
    """
    return request.config.invocation_params.dir, request.config.rootpath, request.path.parent


def found_in(folders: Sequence[Path], ability: str) -> str:
    """The ability as the audit takes it: a path that begins with a dot, in the first folder that has the file."""
    if not ability.startswith("."):
        return ability
    path, colon, name = ability.rpartition(":") if ".py:" in ability else (ability, "", "")
    there = next((folder for folder in folders if (folder / path).is_file()), folders[0])
    return f"{there / path}{colon}{name}"


@pytest.fixture
def edit_scores(audit_run: "Audit", pytestconfig: pytest.Config, record_property: Callable[[str, object], None]) -> Any:
    """The scores of the edit itself, `audit.measures.edit_success.EditScores`; a control skips the test."""
    if not audit_run.requests:
        pytest.skip("the edit requests of the checkpoint are unknown: give their file with --edits")
    from audit.reports.run_rows import edit_score_rows

    state = pytestconfig.stash[STATE]
    with state.clean_exit():
        rows = edit_score_rows(scores := audit_run.edit_scores)
    state.add("edit_scores", *rows)
    for row in rows:
        record_property(f"{row.measure}.{row.protocol}", row.value)
    if audit_run.control:
        pytest.skip(f"{state.settings.editor} is a control, which makes no edit; the report has its edit scores")
    return scores


@pytest.fixture
def integrity(audit_run: "Audit", pytestconfig: pytest.Config, record_property: Callable[[str, object], None]) -> Any:
    """The checks of the edited weights: `audit.measures.integrity.Integrity`."""
    from audit.reports.run_rows import integrity_rows

    state = pytestconfig.stash[STATE]
    with state.clean_exit():
        rows = integrity_rows(found := audit_run.integrity)
    state.add("integrity", *rows)
    for row in rows:
        record_property(f"integrity.{row.check}", row.value)
    return found


@pytest.fixture(scope="session")
def locality(audit_run: "Audit", pytestconfig: pytest.Config) -> "Locality":
    """Base and edited models side by side, for prompts about facts that no edit request names."""
    with pytestconfig.stash[STATE].clean_exit():
        return audit_run.locality
