"""`-n`: one model is edited in one process, so audits refuse it with one sentence."""

import pytest

from tests.plugin.conftest import Suites

pytest_plugins = ("pytester",)
pytest.importorskip("xdist")


def test_audits_refuse_workers(suites: Suites) -> None:
    result = suites.run_apart("sentiment", "-p", "xdist", "-n", "1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = result.stdout.str() + result.stderr.str()
    assert said.count("an audit edits one model in one process: run the audit suites without -n.") == 1
    assert "Traceback" not in said
    assert "INTERNALERROR" not in said


def test_other_tests_run_with_workers_as_ever(suites: Suites) -> None:
    suites.pytester.makepyfile(test_other="def test_sum():\n    assert 1 + 1 == 2")
    result = suites.run_apart("", "-p", "xdist", "-n", "1")
    result.assert_outcomes(passed=1)
