"""A collapsed model fails every ability without being asked, except with `--no-triage`."""

import json
from typing import Any

import pytest

from tests.pytest_plugin.conftest import Suites
from tests.pytest_plugin.fake_audit import COLLAPSE

pytest_plugins = ("pytester",)
COLLAPSED = ("--editor", "collapsed")


def verdict(suites: Suites) -> dict[str, Any]:
    (folder,) = (suites.path / "reports").iterdir()
    found: dict[str, Any] = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    return found


def test_a_collapse_fails_every_ability_and_the_run(suites: Suites) -> None:
    result = suites.run("reasoning sentiment", *COLLAPSED)
    result.assert_outcomes(failed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = result.stdout.str()
    shown = " ".join(text.split())
    assert shown.count(COLLAPSE) == 3  # under either test, and above the verdict line
    assert "FAIL: collapsed on pocket-llama, 10 edits in one batch: collapsed, so no ability was asked" in shown
    assert "measure what is left of each ability with --no-triage." in shown
    assert "Traceback" not in text
    assert "degradation(" not in text  # the line that asked says nothing about why
    document = verdict(suites)
    assert (document["collapse"], document["outcome"]) == (COLLAPSE, "FAIL")
    assert document["abilities"] == document["failed_tests"] == []
    assert document["unasked"] == {}


def test_a_quiet_run_reports_the_collapse(suites: Suites) -> None:
    result = suites.run("sentiment", *COLLAPSED, "-q", "--tb=no")
    result.stdout.fnmatch_lines(["FAIL: *collapsed, so no ability was asked"])


def test_no_triage_asks_every_ability(suites: Suites) -> None:
    result = suites.run("reasoning sentiment", *COLLAPSED, "--no-triage")
    result.assert_outcomes(passed=1, failed=1)
    assert "has collapsed" not in result.stdout.str()
    document = verdict(suites)
    assert document["collapse"] is None
    assert [row["ability"] for row in document["abilities"]] == ["reasoning", "sentiment"]


def test_workers_report_the_collapse_once(suites: Suites) -> None:
    pytest.importorskip("xdist")
    result = suites.run_apart("reasoning sentiment", *COLLAPSED, "-p", "xdist", "--device", "cpu", "-n", "2")
    result.assert_outcomes(failed=2)
    document = verdict(suites)
    assert (document["collapse"], document["outcome"]) == (COLLAPSE, "FAIL")
    assert document["failed_tests"] == []
