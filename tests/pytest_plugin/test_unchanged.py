"""A checkpoint that equals its base model fails the run, whichever tests ran; a control has no edit to judge."""

import re
from pathlib import Path

import pytest

# A run inside this process forgets whatever it imports itself, and torch cannot be imported twice.
import audit.audit  # noqa: F401
from tests.pytest_plugin.conftest import SUITE, RealSuites
from tests.small_audit import SmallWorld, build, teach

pytest_plugins = ("pytester",)
SCORES = """
def test_the_edit(edit_scores):
    assert edit_scores.efficacy_autoregressive.value > 0.95
"""


def said(result: pytest.RunResult) -> str:
    """The output without line breaks."""
    return " ".join(result.stdout.str().split())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    small = build(tmp_path_factory.mktemp("world"))
    teach(small)
    return small


def test_nothing_changed_fails_ability_tests(
    real_suites: RealSuites, world: SmallWorld, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(test_open_qa=SUITE.format(ability="open_qa"))
    wanted = ("test_open_qa.py", "--edited", str(world.model), "--limit", "60")
    failed = real_suites.run(world, *wanted, "-q")
    assert failed.ret == pytest.ExitCode.TESTS_FAILED
    failed.stdout.fnmatch_lines(["*The edited model equals the base model*--allow-unchanged*"])
    assert re.search(r" FAIL: .*: nothing was changed, so no ability was asked", said(failed))
    allowed = real_suites.run(world, *wanted, "--allow-unchanged", "-q")
    assert allowed.ret == pytest.ExitCode.OK
    assert re.search(r" PASS: .*: nothing was changed, 1 PASS", said(allowed))


@pytest.mark.parametrize("options", [(), ("-n", "2", "-p", "xdist")])
def test_nothing_changed_fails_a_run_whose_tests_all_passed(
    real_suites: RealSuites, world: SmallWorld, pytester: pytest.Pytester, options: tuple[str, ...]
) -> None:
    pytester.makepyfile(test_edited="def test_it(integrity): assert integrity.finite_weights")
    run = real_suites.run_apart if options else real_suites.run
    result = run(world, "test_edited.py", "--edited", str(world.model), *options)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert re.search(r" FAIL: .*: nothing was changed", said(result))
    (report,) = Path("reports").glob("*/report.md")
    assert "nothing was changed" in "\n".join(report.read_text(encoding="utf-8").splitlines()[:4])


@pytest.mark.parametrize("control", ["identity", "vandal"])
def test_the_edit_scores_of_a_control_are_reported_and_skipped(
    real_suites: RealSuites, world: SmallWorld, pytester: pytest.Pytester, control: str
) -> None:
    pytester.makepyfile(test_edited=SCORES)
    result = real_suites.run(world, "test_edited.py", "--editor", control, "-rs")
    result.assert_outcomes(skipped=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"SKIPPED*{control} is a control, which makes no edit; *"])
    result.stdout.fnmatch_lines(["efficacy *"])
    other = real_suites.run(world, "test_edited.py", "--editor", "ft", "--editor-config", "steps=1")
    other.assert_outcomes(failed=1)
