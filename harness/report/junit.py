"""JUnit XML, as CI systems read it: a suite for each engine, a case for each scenario and control."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from harness.printable import printable
from harness.report.case import Case
from harness.report.screen import screen_text
from harness.report.summary import case_screen
from harness.run.verdict import Verdict


def xml_text(text: str) -> str:
    """Make a text printable, and with that one that an XML document can hold; readers put it on a terminal as it is."""
    return printable(text)


def junit_xml(cases: Sequence[Case]) -> str:
    """Write all cases: an inconclusive one is skipped, one whose engine broke an error. No times, they are virtual."""
    root = ElementTree.Element("testsuites", {"name": "job-harness", **_counts(cases)})
    for engine in dict.fromkeys(case.engine for case in cases):
        of_engine = [case for case in cases if case.engine == engine]
        suite = ElementTree.SubElement(root, "testsuite", {"name": xml_text(engine), **_counts(of_engine)})
        for case in of_engine:
            _add(suite, case)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _kind(case: Case) -> str | None:
    if case.error is not None:
        return "error"
    return {Verdict.FAIL: "failure", Verdict.INCONCLUSIVE: "skipped"}.get(case.verdict)


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    kinds = [_kind(case) for case in cases]
    return {
        "tests": str(len(cases)),
        "failures": str(kinds.count("failure")),
        "errors": str(kinds.count("error")),
        "skipped": str(kinds.count("skipped")),
    }


def _add(suite: ElementTree.Element, case: Case) -> None:
    element = ElementTree.SubElement(
        suite,
        "testcase",
        classname=xml_text(case.engine),
        name=xml_text(case.name),
        file=xml_text(case.scenario.path),
        line=str(case.line),
    )
    kind = _kind(case)
    if kind is None:
        return
    result = ElementTree.SubElement(element, kind, message=xml_text(case.headline))
    if kind == "failure" and case.run is not None:
        gravest = case.run.gravest
        result.set("type", "expectation" if gravest is None or case.control else gravest.name)
    if kind != "skipped":
        result.text = xml_text(screen_text(case_screen(case)))
