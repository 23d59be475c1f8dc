"""Findings that are accepted for now: a file that may only shrink."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from harness.errors import UsageError
from harness.lint.examination import Examination
from harness.lint.finding import Finding

FORMAT: Final = "job-harness-check-baseline"
VERSION: Final = 1

Key = tuple[str, str, str]


def dump_baseline(findings: Iterable[Finding]) -> str:
    """Write the findings to be accepted. Lines are left out: what stands above a finding may change."""
    accepted = [{"rule": rule, "file": file, "message": message} for rule, file, message in sorted(_keys(findings))]
    return json.dumps({"format": FORMAT, "version": VERSION, "accepted": accepted}, indent=2) + "\n"


def _keys(findings: Iterable[Finding]) -> list[Key]:
    return [finding.key for finding in findings]


def load_baseline(text: str, *, path: str) -> Counter[Key]:
    """Read a baseline.

    Raises UsageError where it is none.
    """
    try:
        document = json.loads(text)
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ValueError(f"its format is no {FORMAT} of version {VERSION}")
        return Counter((str(one["rule"]), str(one["file"]), str(one["message"])) for one in document["accepted"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        told = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
        raise UsageError(
            f"{path}: is no baseline: {told}", hint=f"Write one with --write-baseline {path}, and let it only shrink."
        ) from None


def settled(examination: Examination, baseline: Counter[Key]) -> tuple[Examination, Counter[Key]]:
    """Move accepted findings aside; answers also what the baseline holds and nobody found any more."""
    left = Counter(baseline)
    findings: list[Finding] = []
    accepted: list[Finding] = []
    for finding in examination.findings:
        if left[finding.key] > 0:
            left[finding.key] -= 1
            accepted.append(finding)
        else:
            findings.append(finding)
    return replace(examination, findings=tuple(findings), accepted=tuple(accepted)), +left
