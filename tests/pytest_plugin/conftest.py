"""A separate pytest run for each test, with the fake audit."""

from pathlib import Path

import pytest

# Imported here once: a run inside this process forgets whatever it imports itself.
import tests.pytest_plugin.fake_audit  # noqa: F401
from tests.small_audit import SmallWorld

ROOT = Path(__file__).resolve().parents[2]
CONFTEST = """
pytest_plugins = ("audit.pytest_plugin",)

from audit.pytest_plugin import AUDIT_FACTORY
from tests.pytest_plugin.fake_audit import FakeAudit

def pytest_configure(config):
    config.stash[AUDIT_FACTORY] = FakeAudit
"""
SUITE = """
from audit.verdicts import PASS

def test_{ability}(degradation):
    assert degradation("{ability}", max_drop=0.05) == PASS
"""

EDITED = """
def test_it_was_edited(edit_scores, integrity):
    assert edit_scores and integrity
"""


class Suites:
    """Writes suites and runs pytest on them: `suites.run("sentiment reasoning", "--editor", "rome")`."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        pytester.makeconftest(CONFTEST)

    def write(self, abilities: str) -> None:
        for name in abilities.split():
            self.pytester.makepyfile(**{f"test_{name}": SUITE.format(ability=name)})

    def run(self, abilities: str, *options: str) -> pytest.RunResult:
        """Run the suites of these abilities (in one text, by blanks) with these options."""
        self.write(abilities)
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)

    def run_apart(self, abilities: str, *options: str) -> pytest.RunResult:
        """The same in a process of its own."""
        self.write(abilities)
        return self.pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)


class RealSuites:
    """Runs pytest, with the real audit, on a small world and on two tests that ask no ability."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pytester = pytester
        self._monkeypatch = monkeypatch
        pytester.makepyfile(test_edited=EDITED)

    def run(self, world: SmallWorld, *options: str) -> pytest.RunResult:
        return self._pytester.runpytest_inprocess(*self._words(world), *options)

    def run_apart(self, world: SmallWorld, *options: str) -> pytest.RunResult:
        """The same in a process of its own."""
        return self._pytester.runpytest_subprocess(*self._words(world), *options)

    def _words(self, world: SmallWorld) -> tuple[str, ...]:
        self._monkeypatch.setenv("AUDIT_TEST_ROWS", str(world.rows))
        plugins = ("-p", "audit.pytest_plugin", "-p", "tests.pytest_plugin.on_rows", "-p", "no:cacheprovider")
        own = ("--model", str(world.model), "--edits", str(world.edits), "--device", "cpu", "--limit", "4")
        return (*plugins, *own)


@pytest.fixture
def real_suites(pytester: pytest.Pytester, suites: Suites, monkeypatch: pytest.MonkeyPatch) -> RealSuites:
    pytester.makeconftest("")
    monkeypatch.setenv("AUDIT_STORE", str(pytester.path / "store"))
    return RealSuites(pytester, monkeypatch)


@pytest.fixture
def suites(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suites:
    for name in ("CI", "BUILD_NUMBER", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # what else is installed here is no part of the test
    return Suites(pytester)
