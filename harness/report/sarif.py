"""What `check` found, as SARIF 2.1.0, which code hosts and editors show at the line."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from harness import __version__
from harness.lint.catalogue import CATALOGUE
from harness.lint.examination import Examination
from harness.lint.finding import Finding, Severity
from harness.lint.place import Place
from harness.printable import printable

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


def _result(finding: Finding, known: dict[str, int], *, accepted: bool) -> dict[str, Any]:
    fingerprint = hashlib.sha256("\x00".join(finding.key).encode("utf-8", "backslashreplace")).hexdigest()
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": LEVELS[finding.severity],
        "message": {"text": printable(f"{finding.message}. {finding.repair}")},
        "locations": [{"physicalLocation": _location(finding.place)}],
        "partialFingerprints": {"jobHarness/v1": fingerprint},
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
