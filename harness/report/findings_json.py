"""What `check` found, as JSON. Every key is always there."""

from __future__ import annotations

import json
from typing import Any

from harness.errors import ExitCode
from harness.lint.examination import Examination
from harness.lint.finding import CheckFinding

FORMAT = "job-harness-check"
VERSION = 1


def findings_json(examination: Examination, *, exit_code: ExitCode) -> str:
    """Write all findings, what a baseline accepts, and what files cannot tell."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "exit_code": int(exit_code),
        "files": examination.files,
        "findings": [_finding(finding) for finding in examination.findings],
        "accepted": [_finding(finding) for finding in examination.accepted],
        "uncovered": list(examination.uncovered),
        "not_looked_at": list(examination.skipped),
        "unknown": [
            {"name": value.name, "service": value.service, "file": value.place.file, "line": value.place.line}
            for value in examination.unknown
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _finding(finding: CheckFinding) -> dict[str, Any]:
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
