"""A report as JUnit XML, which continuous integration shows: one test case for each ability.

The properties are those that the pytest plugin records.
"""

from xml.etree import ElementTree

from audit.reports.rows import RunReport
from audit.reports.run_sentences import caveats
from audit.verdicts import FAIL, INCONCLUSIVE

PROPERTIES = ("base", "edited", "drop", "lower", "upper", "margin", "n", "outcome")


def junit_xml(report: RunReport, *, skip_inconclusive: bool = False) -> str:
    """The XML. FAIL is a failure, and so is INCONCLUSIVE unless it is skipped."""
    rows, header = report.abilities, report.header
    skipped = sum(row.outcome == INCONCLUSIVE for row in rows) if skip_inconclusive else 0
    suite = ElementTree.Element(
        "testsuite",
        name=f"audit: {header.subject}",
        tests=str(len(rows)),
        failures=str(sum(row.outcome in (FAIL, INCONCLUSIVE) for row in rows) - skipped),
        errors="0",
        skipped=str(skipped),
        time=f"{sum(report.seconds.values()):.3f}",
        timestamp=header.started,
    )
    for row in rows:
        case = ElementTree.SubElement(suite, "testcase", classname=row.model or header.editor, name=row.title)
        listed = ElementTree.SubElement(case, "properties")
        for name in PROPERTIES:
            value = str(getattr(row.verdict, name))
            ElementTree.SubElement(listed, "property", name=f"{row.ability}.{name}", value=value)
        if row.outcome == INCONCLUSIVE and skip_inconclusive:
            ElementTree.SubElement(case, "skipped", message=row.sentence)
        elif row.outcome in (FAIL, INCONCLUSIVE):
            ElementTree.SubElement(case, "failure", type=str(row.outcome), message=row.sentence).text = row.sentence
    if said := caveats(header):
        ElementTree.SubElement(suite, "system-out").text = "\n".join(said)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
