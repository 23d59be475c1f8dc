"""What `check` found, in every form: for people, as JSON, as JUnit XML and as SARIF 2.1.0.

Every form tells the same findings, gravest first, each with its place, what else sets it, and what
to change. In JSON every key is always there. JUnit has a case for each rule, which fails with every
place that breaches it. SARIF is what code hosts and editors show at the line; there, what a
baseline accepts is present as suppressed.
"""

from __future__ import annotations

import hashlib
import json
import math
import xml.etree.ElementTree as ElementTree
from typing import Any, Final
from urllib.parse import quote

from job_harness import __version__
from job_harness.core.printable import printable
from job_harness.errors import ExitCode
from job_harness.report.ci import xml_text
from job_harness.report.screen import WIDTH, Line, one_line, wrap
from job_harness.review.check.catalogue import CATALOGUE
from job_harness.review.check.examination import Examination
from job_harness.review.check.facts import UNKNOWN, Place
from job_harness.review.check.finding import CheckFinding, Severity
from job_harness.review.check.inventory import Inventory

# for people -----------------------------------------------------------------------------------------------------------


STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
MOST_UNKNOWN = 6
MOST_READ = 8
MOST_ALIKE = 5
"""Findings of one rule and weight that are told one by one; of more, the first few."""
TOLD_OF_MANY = 3


def findings_screen(examination: Examination, *, fail_on: Severity | None, quiet: bool = False) -> list[Line]:
    """Return all that is printed; when quiet only what fails."""
    shown = examination.at_least(fail_on) if quiet else examination.findings
    lines = [
        line for level in reversed(Severity) for line in _level_lines([one for one in shown if one.severity is level])
    ]
    if examination.covered and not quiet:
        lines += _inventory_lines(examination.inventory)
    if examination.unknown and not quiet:
        named = [f"{value.name} of {value.service} ({value.place})" for value in examination.unknown[:MOST_UNKNOWN]]
        more = len(examination.unknown) - len(named)
        text = "; ".join([*named, *([f"{more} more"] if more > 0 else [])])
        lines += [Line(line) for line in wrap("The files do not tell: ", text, width=WIDTH, lines=6)]
    if not quiet:
        lines += [
            Line(line) for text in examination.skipped for line in wrap("Not looked at: ", text, width=WIDTH, lines=3)
        ]
    lines += [
        Line(line, "yellow") for text in examination.uncovered for line in wrap("Open: ", text, width=WIDTH, lines=3)
    ]
    return [*lines, *_summary(examination, fail_on)]


def _inventory_lines(inventory: Inventory) -> list[Line]:
    """Say what was compared, so that a pass of nothing is seen to be one."""
    lines: list[Line] = []
    listed = [
        ("Settings read: ", list(dict.fromkeys(map(str, inventory.settings)))),
        ("Waits of handlers: ", list(dict.fromkeys(map(str, inventory.handlers)))),
    ]
    for head, told in listed:
        if told:
            more = len(told) - MOST_READ
            text = "; ".join([*told[:MOST_READ], *([f"{more} more (all of them: --json)"] if more > 0 else [])])
            lines += [Line(line) for line in wrap(head, text, width=WIDTH, lines=8)]
    return lines


def _level_lines(findings: list[CheckFinding]) -> list[Line]:
    """Tell findings of one weight; of many of one rule the first few, and the places of the others."""
    lines: list[Line] = []
    by_rule: dict[str, list[CheckFinding]] = {}
    for finding in findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    folded = {rule: alike[TOLD_OF_MANY:] for rule, alike in by_rule.items() if len(alike) > MOST_ALIKE}
    others = {id(one) for alike in folded.values() for one in alike}
    for finding in findings:
        lines += [] if id(finding) in others else _finding_lines(finding)
    for rule, alike in folded.items():
        places: dict[str, list[str]] = {}
        for one in alike:
            places.setdefault(one.place.file, []).append(str(one.place.line))
        told = "; ".join(f"{file}:{', '.join(numbers)}" for file, numbers in places.items())
        lines.append(Line(f"{alike[0].severity} {rule} at {len(alike)} more places", STYLES[alike[0].severity]))
        lines += [Line(text) for text in wrap("  ", told, width=WIDTH, lines=8)]
        lines += [Line("  --json tells all of them."), Line("")]
    return lines


def _finding_lines(finding: CheckFinding) -> list[Line]:
    head = f"{finding.severity} {finding.rule} {finding.place}"
    lines = [Line(one_line(head), STYLES[finding.severity])]
    lines += [Line(text) for text in wrap("  ", finding.message, width=WIDTH, lines=8)]
    for other in finding.related:
        lines += [Line(text) for text in wrap("    see ", f"{other.place}: {other.message}", width=WIDTH, lines=3)]
    lines += [Line(text, "green") for text in wrap("  repair: ", finding.repair, width=WIDTH, lines=5)]
    return [*lines, Line("")]


def _summary(examination: Examination, fail_on: Severity | None) -> list[Line]:
    counts = {level: sum(one.severity is level for one in examination.findings) for level in reversed(Severity)}
    told = [f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items() if count]
    files = f"{examination.files} file{'' if examination.files == 1 else 's'} read"
    if examination.accepted:
        told.append(f"{len(examination.accepted)} accepted by the baseline")
    if examination.gone:
        told.append(_gone(examination))
    code = examination.exit_code(fail_on)
    if code is ExitCode.INCONCLUSIVE and not examination.covered:
        return [
            Line(f"inconclusive: {files}, and no settings of a job queue were found", "yellow"),
            *(Line(_DURABLE.format(name, place, _PAGES[name])) for name, place in examination.durable.items()),
            *map(Line, () if examination.durable else _WHERE_TO_LOOK),
        ]
    word, style = {ExitCode.FAIL: ("FAIL", "bold red"), ExitCode.PASS: ("pass", "green")}.get(
        code, ("inconclusive", "yellow")
    )
    among = "" if told and code is ExitCode.FAIL else f" among {examination.inventory}"
    not_run = [Line(text) for text in _NOT_RUN] if examination.inventory.verbs else []
    return [Line(f"{word}: {', '.join(told) or 'no contradiction'}{among}; {files}", style), *not_run]


_NOT_RUN: Final = (
    "No SQL was run, nor prepared: `job-harness explore` on the queue file does both, and tries each verb once.",
)


_WHERE_TO_LOOK: Final = (
    "Name the folder that has the code of the worker. For a queue in tables of your own,",
    "`job-harness init --queue SCHEMA` drafts a queue file, which check reads too (docs/queue_files.md).",
    "To search your own processes as they are, write a system file (docs/system_files.md).",
)
"""What to check instead of a folder in which nothing was found."""


_PAGES: Final = {
    "langgraph": "langgraph",
    "dbos": "dbos",
    "@dbos-inc/dbos-sdk": "dbos_typescript",
    "pydantic_ai": "agents",
    "agent_framework": "agents",
}
"""By library of agents or workflows, the page that shows a test of it."""
_DURABLE: Final = "{} is used ({}): it has no settings to check; `job-harness docs {}` shows a test that crashes it."


def _gone(examination: Examination) -> str:
    many = len(examination.gone)
    return f"{many} of the baseline {'is' if many == 1 else 'are'} not found any more"


# JSON -----------------------------------------------------------------------------------------------------------------


FORMAT = "job-harness-check"
VERSION = 1


def findings_json(examination: Examination, *, exit_code: ExitCode) -> str:
    """Write all findings, what a baseline accepts, what of it is not found any more, and what files cannot tell."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "exit_code": int(exit_code),
        "files": examination.files,
        "read": _inventory_data(examination.inventory),
        "findings": [_finding_data(finding) for finding in examination.findings],
        "accepted": [_finding_data(finding) for finding in examination.accepted],
        "gone": [{"rule": rule, "file": file} for rule, file, _ in examination.gone],
        "uncovered": list(examination.uncovered),
        "not_looked_at": list(examination.skipped),
        "unknown": [
            {"name": value.name, "service": value.service, "file": value.place.file, "line": value.place.line}
            for value in examination.unknown
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _inventory_data(inventory: Inventory) -> dict[str, Any]:
    return {
        "settings": [
            {
                "name": one.name,
                "value": None if one.value is UNKNOWN else _finite(one.value),
                "queue": one.queue or None,
                "file": one.place.file,
                "line": one.place.line,
            }
            for one in inventory.settings
        ],
        "handlers": [
            {
                "queue": one.queue,
                "longest_wait": None
                if one.wait is None
                else {"name": one.wait.name, "seconds": _finite(one.wait.seconds)},
                "file": one.place.file,
                "line": one.place.line,
            }
            for one in inventory.handlers
        ],
        "calls": dict(inventory.calls or {}),
        "verbs": inventory.verbs,
    }


def _finite(value: object) -> object:
    """Return a value as JSON can hold it: an infinite number as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _finding_data(finding: CheckFinding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "severity": str(finding.severity),
        "file": finding.place.file,
        "line": finding.place.line,
        "message": finding.message,
        "repair": finding.repair,
        "related": [
            {"file": other.place.file, "line": other.place.line, "message": other.message} for other in finding.related
        ],
    }


# JUnit ----------------------------------------------------------------------------------------------------------------


SUITE = "job-harness check"


def findings_junit(examination: Examination, *, fail_on: Severity | None) -> str:
    """Write all rules; one whose findings weigh less than `fail_on` passes and says them on its output.

    Where no settings were found, a rule without findings is skipped: nothing passes. What was not
    understood is a skipped case of its own, and a baseline that holds what is not found any more is
    one that fails.
    """
    known = {rule.id for rule in CATALOGUE}
    names = [
        *(rule.id for rule in CATALOGUE),
        *dict.fromkeys(f.rule for f in examination.findings if f.rule not in known),
    ]
    by_rule = {name: [finding for finding in examination.findings if finding.rule == name] for name in names}
    stale = len(examination.gone) > 0
    failures = len({finding.rule for finding in examination.at_least(fail_on)}) + stale
    unjudged = [name for name, found in by_rule.items() if not found] if not examination.covered else []
    skipped = len(unjudged) + len(examination.uncovered)
    tests = len(by_rule) + stale + len(examination.uncovered)
    counts = {"tests": str(tests), "failures": str(failures), "errors": "0", "skipped": str(skipped)}
    root = ElementTree.Element("testsuites", {"name": SUITE, **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": SUITE, **counts})
    for name, found in by_rule.items():
        case = _add(suite, name, found, fail_on)
        if name in unjudged:
            ElementTree.SubElement(case, "skipped", message="no settings of a job queue were found")
    for text in examination.uncovered:
        case = ElementTree.SubElement(suite, "testcase", classname=SUITE, name="understood")
        ElementTree.SubElement(case, "skipped", message=xml_text(text))
    if stale:
        case = ElementTree.SubElement(suite, "testcase", classname=SUITE, name="baseline")
        failure = ElementTree.SubElement(case, "failure", type="error", message=xml_text(_gone(examination)))
        failure.text = xml_text("\n".join(f"{file}: {rule}" for rule, file, _ in examination.gone))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(
    suite: ElementTree.Element, name: str, found: list[CheckFinding], fail_on: Severity | None
) -> ElementTree.Element:
    case = ElementTree.SubElement(suite, "testcase", classname=SUITE, name=xml_text(name))
    if not found:
        return case
    case.set("file", xml_text(found[0].place.file))
    case.set("line", str(found[0].place.line))
    text = "\n".join(f"{one.place}: {one.message}\n  repair: {one.repair}" for one in found)
    if fail_on is not None and any(one.severity >= fail_on for one in found):
        failure = ElementTree.SubElement(case, "failure", type=str(max(one.severity for one in found)))
        failure.set("message", xml_text(found[0].message))
        failure.text = xml_text(text)
    else:
        ElementTree.SubElement(case, "system-out").text = xml_text(text)
    return case


# SARIF ----------------------------------------------------------------------------------------------------------------


SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}


def sarif(examination: Examination) -> str:
    """Write one run with all rules and all results; what a baseline accepts is there as suppressed."""
    known = {rule.id: number for number, rule in enumerate(CATALOGUE)}
    results = [_result(finding, known, accepted=False) for finding in examination.findings]
    results += [_result(finding, known, accepted=True) for finding in examination.accepted]
    run = {
        "tool": {
            "driver": {
                "name": "job-harness",
                "semanticVersion": __version__,
                "rules": [_rule(number) for number in range(len(CATALOGUE))],
            }
        },
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"ROOT": {"description": {"text": "The root of the repository."}}},
        "results": results,
    }
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _rule(number: int) -> dict[str, Any]:
    rule = CATALOGUE[number]
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.id.split("_")),
        "shortDescription": {"text": rule.sentence},
        "fullDescription": {"text": f"{rule.sentence} Otherwise: {rule.prevents}"},
        "help": {"text": f"{rule.repair} The scenario scenarios/{rule.scenario} has the same failure in a run."},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def _result(finding: CheckFinding, known: dict[str, int], *, accepted: bool) -> dict[str, Any]:
    fingerprint = hashlib.sha256("\x00".join(finding.key).encode("utf-8", "backslashreplace")).hexdigest()
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": LEVELS[finding.severity],
        "message": {"text": printable(f"{finding.message}. {finding.repair}")},
        "locations": [{"physicalLocation": _location(finding.place)}],
        "partialFingerprints": {"jobHarness/v2": fingerprint},
    }
    if finding.rule in known:
        result["ruleIndex"] = known[finding.rule]
    if finding.related:
        result["relatedLocations"] = [
            {"id": number, "physicalLocation": _location(other.place), "message": {"text": printable(other.message)}}
            for number, other in enumerate(finding.related, start=1)
        ]
    if accepted:
        result["suppressions"] = [{"kind": "external", "status": "accepted"}]
    return result


def _location(place: Place) -> dict[str, Any]:
    return {
        "artifactLocation": {"uri": quote(place.file, errors="surrogateescape"), "uriBaseId": "ROOT"},
        "region": {"startLine": max(1, place.line)},
    }
