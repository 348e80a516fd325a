"""`--junitxml` has the scores as properties of each test."""

import xml.etree.ElementTree as ElementTree

from audit.reports.junit import properties as recorded
from tests.pytest_plugin.conftest import Suites
from tests.reports.sample import FAILED, UNDECIDED

pytest_plugins = ("pytester",)


def properties(suites: Suites, test: str) -> dict[str, str]:
    root = ElementTree.parse(suites.path / "out.xml")
    (case,) = [case for case in root.iter("testcase") if case.get("name") == test]
    return {str(one.get("name")): str(one.get("value")) for one in case.iter("property")}


def test_the_numbers_of_a_verdict_are_in_the_file(suites: Suites) -> None:
    suites.run("reasoning", "--junitxml=out.xml")
    found = properties(suites, "test_reasoning")
    assert found["reasoning.outcome"] == "FAIL"
    assert found["reasoning.protocol"] == "standard"
    assert float(found["reasoning.drop"]) == 0.24
    assert {"reasoning.base", "reasoning.edited", "reasoning.lower", "reasoning.upper", "reasoning.n"} <= set(found)


def test_a_case_has_the_properties_that_audit_writes(suites: Suites) -> None:
    suites.run("reasoning", "--reading", "choices", "--junitxml=out.xml")
    found = properties(suites, "test_reasoning")
    assert list(found) == list(recorded(FAILED))
    assert found["reasoning.reading"] == "choices" and found["reasoning.upper"] == str(FAILED.verdict.upper)


def test_the_sentence_is_in_what_jenkins_and_gitlab_show(suites: Suites) -> None:
    suites.run("reasoning summarization", "--inconclusive", "skip", "--junitxml=out.xml")
    root = ElementTree.parse(suites.path / "out.xml")
    (failure,), (skipped,) = root.iter("failure"), root.iter("skipped")
    for shown in (failure.get("message"), failure.text):  # Jenkins shows both, GitLab the text
        assert FAILED.sentence in (shown or "")
    assert UNDECIDED.sentence in (skipped.get("message") or "")


def test_edit_scores_and_integrity_are_in_the_file(suites: Suites) -> None:
    suites.pytester.makepyfile(test_edit="def test_edit(edit_scores, integrity):\n    assert integrity.sound")
    suites.run("", "--junitxml=out.xml")
    found = properties(suites, "test_edit")
    assert float(found["efficacy.autoregressive"]) == 0.98
    assert found["integrity.finite weights"] == "True"
