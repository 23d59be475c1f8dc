"""What CI systems read of cases: JUnit XML, and annotations for GitHub, one workflow command a line."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.errors import ExitCode
from harness.printable import printable
from harness.report.case import Case
from harness.report.screen import one_line, screen_text
from harness.report.summary import case_screen
from harness.run.verdict import Verdict, stopped_by
from harness.scenario.document import ScenarioError

if TYPE_CHECKING:
    from harness.lint.finding import CheckFinding

LEVELS = {"error": "error", "warning": "warning", "note": "notice"}
"""The severity of a finding of `check`, as GitHub calls it."""

# JUnit ----------------------------------------------------------------------------------------------------------------


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


# annotations for GitHub -----------------------------------------------------------------------------------------------


def github_annotations(cases: Sequence[Case], errors: Sequence[ScenarioError]) -> str:
    """Write an error for every failure and every mistake in a file, a warning for what stayed open."""
    lines = [
        _command("error", error.path, problem.line, "scenario", problem.message)
        for error in errors
        for problem in error.problems
    ]
    for case in cases:
        if case.exit_code is ExitCode.PASS:
            continue
        level = "warning" if case.exit_code is ExitCode.INCONCLUSIVE else "error"
        title = f"{case.engine}: {case.scenario.title or case.name}"
        stopped = stopped_by(case.run.trials) if case.run is not None else ""
        told = f"{case.headline}\nStopped by: {stopped}" if stopped else case.headline
        lines.append(_command(level, case.scenario.path, case.line, title, told))
    return "".join(f"{line}\n" for line in lines)


def finding_annotations(findings: Sequence[CheckFinding]) -> str:
    """Write a command for every finding of `check`, with its repair."""
    return "".join(
        _command(
            LEVELS[str(finding.severity)],
            finding.place.file,
            finding.place.line,
            finding.rule,
            f"{finding.message}\n{finding.repair}",
        )
        + "\n"
        for finding in findings
    )


def _command(level: str, path: str, line: int, title: str, message: str) -> str:
    where = f"file={_property(path)},line={line},title={_property(one_line(title))}"
    return f"::{level} {where}::{_data(message)}"


def _data(text: str) -> str:
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
