"""A report as JUnit XML, which continuous integration shows: one test case for each ability.

Jenkins shows the message of a failure and then its text, GitLab its text alone. Both tell cases apart by class name and
name, and follow them from run to run, so neither contains a date. The properties are those that the pytest plugin
records for `--junitxml`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree

from audit.reports.rows import AbilityRow, RunReport
from audit.reports.run_sentences import caveats, explanation
from audit.verdicts import INCONCLUSIVE, PASS

NUMBERS = ("base", "edited", "drop", "lower", "upper", "margin", "n")
# What XML 1.0 cannot hold, not even as a reference.
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One test case; `result` is "failure", "error" or "skipped", or "" where it passed."""

    classname: str
    name: str
    result: str = ""
    kind: str = ""
    message: str = ""
    text: str = ""
    properties: tuple[tuple[str, object], ...] = ()


def properties(row: AbilityRow) -> dict[str, object]:
    """The numbers of a verdict, and how the ability was asked, by name: "ner.drop"."""
    found = {
        **{name: getattr(row.verdict, name) for name in NUMBERS},
        "outcome": str(row.outcome),
        "protocol": row.protocol,
        "reading": row.how,
    }
    return {f"{row.ability}.{name}": value for name, value in found.items()}


def junit_xml(report: RunReport, *, skip_inconclusive: bool = False) -> str:
    """The XML. FAIL is a failure, and so is INCONCLUSIVE unless it is skipped.

    An ability that could not be asked is an error. A collapsed model and unsound weights are failures of their own.
    """
    cases, header = list(_cases(report, skip_inconclusive)), report.header
    suite = ElementTree.Element("testsuite", name=_legal(f"audit: {header.subject}"), tests=str(len(cases)))
    for attribute, result in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.result == result for case in cases)))
    suite.set("time", f"{sum(report.seconds.values()):.3f}")
    suite.set("timestamp", header.started)
    for case in cases:
        element = ElementTree.SubElement(suite, "testcase", classname=_legal(case.classname), name=_legal(case.name))
        if case.properties:
            listed = ElementTree.SubElement(element, "properties")
            for name, value in case.properties:
                ElementTree.SubElement(listed, "property", name=_legal(name), value=_legal(str(value)))
        if case.result:
            found = ElementTree.SubElement(element, case.result, message=_legal(case.message))
            found.text = _legal(case.text or case.message)
            if case.kind:
                found.set("type", case.kind)
    if said := caveats(header):
        ElementTree.SubElement(suite, "system-out").text = _legal("\n".join(said))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _cases(report: RunReport, skip_inconclusive: bool) -> Iterable[Case]:
    common = _classname(report.header.editor)
    for row in report.abilities:
        skipped = row.outcome == INCONCLUSIVE and skip_inconclusive
        result = "" if row.outcome == PASS else "skipped" if skipped else "failure"
        yield Case(
            _classname(row.model) if row.model else common,
            row.title if row.model else row.ability,
            result,
            str(row.outcome) if result == "failure" else "",
            row.sentence,
            "\n".join(explanation(row, PASS)) if result == "failure" else "",
            tuple(properties(row).items()),
        )
    for ability, reason in report.unasked.items():
        yield Case(common, ability, "error", "not asked", reason)
    if report.collapse:
        yield Case(common, "collapse", "failure", "collapse", report.collapse)
    for check in report.integrity:
        if check.sound is False:
            yield Case(common, check.check, "failure", "unsound", check.sentence)


def _classname(name: str) -> str:
    """The class of an editor or an edited model. Jenkins splits it at the last dot, so "edited.csv" has none here."""
    return f"audit.{name.replace('.', '_')}"


def _legal(text: str) -> str:
    """The text with characters that XML cannot hold written as "#x1B"."""
    return NO_XML.sub(lambda found: f"#x{ord(found[0]):02X}", text)
