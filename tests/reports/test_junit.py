"""JUnit XML as GitLab and Jenkins read it, beside the file that pytest writes."""

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from audit.reports.junit import junit_xml, properties
from audit.reports.rows import IntegrityRow, RunReport
from tests.reports.sample import FAILED, PASSED, REPORT, UNDECIDED

PYTEST_TESTS = """
import pytest

def test_passes(record_property):
    record_property("a.b", 1)

def test_fails():
    assert 1 == 2

def test_skips():
    pytest.skip("why")

@pytest.fixture
def broken():
    raise ValueError("no")

def test_error(broken):
    pass
"""


def suite_of(report: RunReport, *, skip_inconclusive: bool = False) -> Element:
    root = ElementTree.fromstring(junit_xml(report, skip_inconclusive=skip_inconclusive))
    assert root.tag == "testsuites"
    (suite,) = root
    return suite


@pytest.fixture(scope="module")
def of_pytest(tmp_path_factory: pytest.TempPathFactory) -> Element:
    """The suite in a file of pytest with one case of each result."""
    folder = tmp_path_factory.mktemp("pytest")
    (folder / "test_all.py").write_text(PYTEST_TESTS, encoding="utf-8")
    words = ("-m", "pytest", "-p", "no:cacheprovider", "-q", "--junitxml=out.xml", "test_all.py")
    subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, timeout=60)
    (suite,) = ElementTree.parse(folder / "out.xml").getroot()
    return suite


def test_elements_and_attributes_are_those_of_pytest(of_pytest: Element) -> None:
    """Except for the time of a case, which the audit does not measure, the host, and the kind of a failure."""
    unasked = replace(REPORT, unasked={"ner": "no file"})
    ours, theirs = suite_of(unasked, skip_inconclusive=True), of_pytest
    assert set(theirs.attrib) - {"hostname"} == set(ours.attrib)
    for tag in ("testcase", "properties", "property", "failure", "skipped", "error"):
        our, their = next(ours.iter(tag)), next(theirs.iter(tag))
        assert set(our.attrib) - {"type"} == set(their.attrib) - {"type", "time"}, tag
        assert bool(our.text and our.text.strip()) == bool(their.text and their.text.strip()), tag
    assert [case.tag for case in theirs] == ["testcase"] * 4


def test_the_counts_are_those_of_the_cases(of_pytest: Element) -> None:
    for suite in (of_pytest, suite_of(REPORT), suite_of(REPORT, skip_inconclusive=True), suite_of(dead())):
        found = Counter(child.tag for case in suite.iter("testcase") for child in case)
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert suite.get(attribute) == str(found[tag])
        assert suite.get("tests") == str(len(list(suite.iter("testcase"))))


def test_a_case_is_an_ability_with_its_sentence() -> None:
    first, second, third = suite_of(REPORT)
    assert [case.get("name") for case in (first, second, third)] == ["reasoning", "sentiment", "summarization"]
    failure = first.find("failure")
    assert failure is not None and failure.attrib == {"message": FAILED.sentence, "type": "FAIL"}
    assert failure.text is not None and FAILED.sentence in failure.text  # GitLab shows the text alone
    assert failure.text.startswith("reasoning: FAIL, wanted PASS\nbase 0.860, edited 0.620, drop 0.240")
    assert [child.tag for child in second] == ["properties"]
    listed = {one.get("name"): one.get("value") for one in second.iter("property")}
    assert listed == {name: str(value) for name, value in properties(PASSED).items()}
    undecided = third.find("failure")
    assert undecided is not None and undecided.get("type") == "INCONCLUSIVE"
    skipped = suite_of(REPORT, skip_inconclusive=True)[2].find("skipped")
    assert skipped is not None and skipped.get("message") == skipped.text == UNDECIDED.sentence


def dead() -> RunReport:
    unsound = IntegrityRow("finite weights", False, False, "3 weights are NaN")
    return replace(REPORT, abilities=(), collapse="It has collapsed.", integrity=(unsound,), unasked={"ner": "no file"})


def test_a_run_that_fails_without_a_verdict_has_cases_too() -> None:
    cases = [(case.get("name"), case[0].tag, case[0].get("message")) for case in suite_of(dead())]
    assert cases == [
        ("ner", "error", "no file"),
        ("collapse", "failure", "It has collapsed."),
        ("finite weights", "failure", "3 weights are NaN"),
    ]


def test_the_classes_are_the_same_in_every_run_and_have_one_dot() -> None:
    rows = tuple(replace(row, model="out/v1.2/edited.csv") for row in (FAILED, PASSED))
    assert {case.get("classname") for case in suite_of(REPORT)} == {"audit.memit"}
    cases = suite_of(replace(REPORT, abilities=rows)).findall("testcase")
    assert {case.get("classname") for case in cases} == {"audit.out/v1_2/edited_csv"}
    assert [case.get("name") for case in cases] == ["Reasoning", "Sentiment"]  # the ability names the model as well


def test_any_text_makes_a_file_that_can_be_read() -> None:
    wild = "a\x00b\x1b[31m \udc80 <&\"'>]]> \ufffe é 😀"
    header = replace(REPORT.header, editor=wild, result_caveats=(wild,))
    text = junit_xml(replace(REPORT, header=header, unasked={wild: wild}))
    root = ElementTree.fromstring(text.encode("utf-8"))
    case = root[0].findall("testcase")[-1]
    assert case.get("name") == "a#x00b#x1B[31m #xDC80 <&\"'>]]> #xFFFE é 😀" == (root[0].findtext("system-out") or "")
    assert not re.search("[\x00\x1b]", text)
