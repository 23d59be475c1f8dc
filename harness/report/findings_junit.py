"""What `check` found, as JUnit XML: a case for each rule, which fails with every place that breaches it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from harness.lint.catalogue import CATALOGUE
from harness.lint.examination import Examination
from harness.lint.finding import CheckFinding, Severity
from harness.report.junit import xml_text

SUITE = "job-harness check"


def findings_junit(examination: Examination, *, fail_on: Severity) -> str:
    """Write all rules; one whose findings weigh less than `fail_on` passes and says them on its output."""
    known = {rule.id for rule in CATALOGUE}
    names = [
        *(rule.id for rule in CATALOGUE),
        *dict.fromkeys(f.rule for f in examination.findings if f.rule not in known),
    ]
    by_rule = {name: [finding for finding in examination.findings if finding.rule == name] for name in names}
    failures = sum(any(one.severity >= fail_on for one in found) for found in by_rule.values())
    counts = {"tests": str(len(by_rule)), "failures": str(failures), "errors": "0", "skipped": "0"}
    root = ElementTree.Element("testsuites", {"name": SUITE, **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": SUITE, **counts})
    for name, found in by_rule.items():
        _add(suite, name, found, fail_on)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(suite: ElementTree.Element, name: str, found: list[CheckFinding], fail_on: Severity) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=SUITE, name=xml_text(name))
    if not found:
        return
    case.set("file", xml_text(found[0].place.file))
    case.set("line", str(found[0].place.line))
    text = "\n".join(f"{one.place}: {one.message}\n  repair: {one.repair}" for one in found)
    if any(one.severity >= fail_on for one in found):
        failure = ElementTree.SubElement(case, "failure", type=str(max(one.severity for one in found)))
        failure.set("message", xml_text(found[0].message))
        failure.text = xml_text(text)
    else:
        ElementTree.SubElement(case, "system-out").text = xml_text(text)
