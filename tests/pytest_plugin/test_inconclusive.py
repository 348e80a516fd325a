"""`--inconclusive fail|skip`: what an undecided ability does to its test."""

from tests.pytest_plugin.conftest import Suites

pytest_plugins = ("pytester",)


def test_an_inconclusive_verdict_fails_the_run_by_default(suites: Suites) -> None:
    result = suites.run("summarization sentiment")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["E*summarization: INCONCLUSIVE, wanted PASS"])


def test_skip_skips_the_test_with_the_verdict(suites: Suites) -> None:
    result = suites.run("summarization sentiment", "--inconclusive", "skip", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["SKIPPED*about 140 more items would*"])


def test_a_failure_is_never_skipped(suites: Suites) -> None:
    result = suites.run("reasoning", "--inconclusive", "skip")
    result.assert_outcomes(failed=1)
    assert result.ret == 1
