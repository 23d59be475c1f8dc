"""What CI systems read of cases and searches: JUnit XML, annotations for GitHub and GitLab, a summary for a job's page.

GitHub's annotations are workflow commands, one a line; GitLab's are a report of code quality; the
summary is Markdown.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from job_harness.core.printable import printable
from job_harness.core.run.verdict import Verdict, fix_line
from job_harness.core.scenario.document import ScenarioError
from job_harness.report.case import Case
from job_harness.report.screen import one_line, screen_text
from job_harness.report.summary import case_screen

if TYPE_CHECKING:
    from job_harness.review.check.finding import CheckFinding

LEVELS = {"error": "error", "warning": "warning", "note": "notice"}
"""The severity of a finding of `check`, as GitHub calls it."""

# JUnit ----------------------------------------------------------------------------------------------------------------


def xml_text(text: str) -> str:
    """Make a text printable, and with that one that an XML document can hold; readers put it on a terminal as it is."""
    return printable(text)


class CiResult(NamedTuple):
    """One result as CI shows it: a case, an anomaly that a search found, or a search that found none."""

    engine: str
    name: str
    outcome: str = ""
    """`failure`, `skipped` (not judged), `error` (could not run), as JUnit has them; empty: a pass."""
    message: str = ""
    """One line; empty for a pass."""
    text: str = ""
    """The screen of a failure or an error."""
    kind: str = ""
    """What failed: an anomaly, or `expectation`."""
    title: str = ""
    """Of the annotation; empty: the name."""
    file: str = ""
    """Which file an annotation points at; empty: none."""
    line: int = 1
    fix: str = ""
    """Which change was seen to fix it, as the screen says it; empty: none was tried."""
    level: str = ""
    """How an annotation is called; empty: as its outcome asks for."""
    picture: str = ""
    """The file in which it is drawn; empty: none was asked for."""


def case_results(cases: Sequence[Case]) -> list[CiResult]:
    """Return each case as CI shows it."""
    return [_case_result(case) for case in cases]


def unjudged_results(errors: Sequence[ScenarioError], *, run: int, planned: int) -> list[CiResult]:
    """Return as errors the files that are no scenarios, and the cases that an interruption left out."""
    results = [
        CiResult(
            "scenarios",
            error.path,
            "error",
            one_line(error.message),
            error.message,
            title="no scenario",
            file=error.path,
            line=max(1, error.problems[0].line),
        )
        for error in errors
    ]
    if run < planned:
        told = f"{planned - run} of {planned} cases were not run"
        results.append(CiResult("scenarios", "not run", "error", told, told))
    return results


def _case_result(case: Case) -> CiResult:
    outcome = {Verdict.FAIL: "failure", Verdict.INCONCLUSIVE: "skipped"}.get(case.verdict, "")
    outcome = "error" if case.error is not None else outcome
    gravest = case.run.lead if case.run is not None else None
    return CiResult(
        case.place,
        case.name,
        outcome,
        case.headline if outcome else "",
        screen_text(case_screen(case)) if outcome in ("failure", "error") else "",
        "expectation" if gravest is None or case.control else gravest.name,
        case.scenario.title,
        case.scenario.path,
        _line(case),
        "".join(fix_line(case.run.trials)) if case.run is not None else "",
    )


def _line(case: Case) -> int:
    """Return the line of what was expected and did not come, else the case's own."""
    failures = case.run.failures if case.run is not None and case.control is None else ()
    lines = [text.removeprefix(f"{case.scenario.path}:").partition(":")[0] for text in failures]
    return next((int(line) for line in lines if line.isdecimal()), case.line)


def junit_xml(results: Sequence[CiResult]) -> str:
    """Write all results: what was not judged is skipped, what could not run is an error. No times, they are virtual."""
    root = ElementTree.Element("testsuites", {"name": "job-harness", **_counts(results)})
    for engine in dict.fromkeys(result.engine for result in results):
        of_engine = [result for result in results if result.engine == engine]
        suite = ElementTree.SubElement(root, "testsuite", {"name": xml_text(engine), **_counts(of_engine)})
        for result in of_engine:
            _add(suite, result)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _counts(results: Sequence[CiResult]) -> dict[str, str]:
    kinds = [result.outcome for result in results]
    return {
        "tests": str(len(results)),
        "failures": str(kinds.count("failure")),
        "errors": str(kinds.count("error")),
        "skipped": str(kinds.count("skipped")),
    }


def _add(suite: ElementTree.Element, result: CiResult) -> None:
    element = ElementTree.SubElement(
        suite,
        "testcase",
        classname=xml_text(result.engine),
        name=xml_text(result.name),
        file=xml_text(result.file),
        line=str(result.line),
    )
    if not result.outcome:
        return
    told = ElementTree.SubElement(element, result.outcome, message=xml_text(result.message))
    if result.outcome == "failure":
        told.set("type", xml_text(result.kind))
    if result.outcome != "skipped":
        told.text = xml_text(result.text)


# annotations for GitHub -----------------------------------------------------------------------------------------------


def github_annotations(results: Sequence[CiResult], errors: Sequence[ScenarioError] = ()) -> str:
    """Write an error for every failure and every mistake in a file, a warning for what was not judged."""
    lines: list[str] = []
    for result in (*_as_results(errors), *results):
        if not result.outcome:
            continue
        level = _level(result)
        told = f"{result.message}\n{result.fix}" if result.fix else result.message
        title = ": ".join(filter(None, (result.engine, result.title or result.name)))
        lines.append(_command(level, result.file, result.line, title, told))
    return "".join(f"{line}\n" for line in lines)


def check_results(findings: Sequence[CheckFinding]) -> list[CiResult]:
    """Return every finding of `check` as CI shows it, with its repair; only errors fail the job by themselves."""
    return [
        CiResult(
            "",
            finding.rule,
            "failure",
            finding.message,
            kind=finding.rule,
            file=finding.place.file,
            line=finding.place.line,
            fix=finding.repair,
            level=LEVELS[str(finding.severity)],
        )
        for finding in findings
    ]


_SEVERITIES: Final = {"error": "major", "warning": "minor", "notice": "info"}
"""The levels of GitHub, as GitLab calls them."""


def code_quality(results: Sequence[CiResult], errors: Sequence[ScenarioError] = ()) -> list[dict[str, Any]]:
    """Return what GitLab shows beside the lines of a merge request, each with a mark that it knows again."""
    return [
        {
            "check_name": result.kind or result.outcome,
            "description": printable(f"{result.message} {result.fix}".strip()),
            "severity": _SEVERITIES[_level(result)],
            "fingerprint": _fingerprint(result.kind, result.message, result.file),
            "location": {"path": result.file, "lines": {"begin": result.line}},
        }
        for result in (*results, *_as_results(errors))
        if result.outcome and result.file
    ]


def _as_results(errors: Sequence[ScenarioError]) -> list[CiResult]:
    """Return each mistake in a file that is no scenario."""
    return [
        CiResult("", "scenario", "error", problem.message, file=error.path, line=max(1, problem.line))
        for error in errors
        for problem in error.problems
    ]


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()


def summary(results: Sequence[CiResult], errors: Sequence[ScenarioError] = (), *, artifacts: str = "") -> str:
    """Write a table of what is wrong for a job's page, each with its screen folded away; one line where nothing is.

    `artifacts` is where the files of this job are found, to which each picture is linked.
    """
    wrong = [result for result in (*results, *_as_results(errors)) if result.outcome]
    if not wrong:
        return f"**job-harness**: {len(results)} passed\n"
    lines = [f"**job-harness**: {len(wrong)} of {len(results)} are wrong, or were not judged", ""]
    lines += ["| where | what | fixed by |", "| --- | --- | --- |"]
    for result in wrong:
        place = f"`{result.file}:{result.line}`" if result.file else result.engine
        lines.append(f"| {place} | {_cell(result.message)} | {_cell(result.fix)} |")
    for picture in dict.fromkeys(result.picture for result in wrong if result.picture):
        lines += ["", f"[Picture of what happened]({artifacts or picture}): `{picture}`"]
    for result in wrong:
        if result.text:
            head = f"<details><summary>{_cell(result.title or result.name)}</summary>"
            lines += ["", head, "", "```text", xml_text(result.text).rstrip(), "```", "", "</details>"]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|").replace("<", "&lt;")


def _level(result: CiResult) -> str:
    return result.level or ("warning" if result.outcome == "skipped" else "error")


def _command(level: str, path: str, line: int, title: str, message: str) -> str:
    place = f"file={_property(path)},line={line}," if path else ""
    where = f"{place}title={_property(one_line(title))}"
    return f"::{level} {where}::{_data(message)}"


def _data(text: str) -> str:
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
