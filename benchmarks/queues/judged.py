"""One column of a page: a search of one queue under one set of settings, and what it says of each guarantee.

A search is a process of its own, so that one queue that breaks ends no other. Knows the search's JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from job_harness.core.invariants import kind_of
from job_harness.core.invariants.property import Guarantee
from queues.catalogue import QueueAbout, QueueTarget

SEED: Final = 0
MINUTES: Final = 120
"""A search ends by its runs, so that no mark depends on the machine: one that is still at it after this hangs."""
_PROGRESS: Final = re.compile(r"job-harness: (\d+ of \d+ runs|.*making it smaller|trying fixes)")
_NEXT: Final = re.compile(r"\n(?! )")
"""What is indented goes on with the line before."""
_VERDICTS: Final = ("inconclusive", "Ended early", "Cut")


@dataclass(frozen=True)
class QueueFinding:
    """The shortest history of one anomaly."""

    anomaly: str
    here: str
    """What happened, in the words of whatever noticed it."""
    rows: tuple[tuple[str, str, str], ...]
    """When, who, what."""
    story: tuple[str, ...]
    heals: tuple[str, ...]


@dataclass(frozen=True)
class JudgedColumn:
    """What a search came to."""

    target: QueueTarget
    findings: Mapping[Guarantee, tuple[QueueFinding, ...]] = field(default_factory=dict)
    runs: int = 0
    seconds: int = 0
    problem: str = ""
    """Why nothing was judged."""

    def mark(self, about: QueueAbout, guarantee: Guarantee) -> str:
        """Return the mark of a guarantee."""
        if self.problem:
            return "not judged"
        if found := self.findings.get(guarantee):
            if guarantee in about.documented:
                return "documented"
            if all(kind_of(each.anomaly).only_risks for each in found):
                return "at risk"
            return "broken" if guarantee in about.promises else "found"
        if guarantee in about.promises and guarantee in self.target.untried:
            return "not tried"
        if guarantee in about.promises:
            return "kept in part" if guarantee in dict(self.target.documented) else "kept"
        return "not promised"


def search(about: QueueAbout, target: QueueTarget, *, into: Path, runs: int) -> JudgedColumn:
    """Search one target, keeping on after a finding."""
    told = into / f"{Path(target.target).stem.replace('/', '-')}-found.json"
    told.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "job_harness.doors.cli", "explore", target.target, "--keep-going", "--quiet", "-j", "1",
        "--seed", str(SEED), "--runs", str(runs), "--json", str(told), *target.options,
    ]  # fmt: skip
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=into, capture_output=True, text=True, timeout=MINUTES * 60, check=False, env=_plain()
        )
    except subprocess.TimeoutExpired:
        return JudgedColumn(target, problem=f"it did not end within {MINUTES} minutes")
    seconds = round(time.monotonic() - began)
    if done.returncode not in (0, 1) or not told.exists():
        return JudgedColumn(target, seconds=seconds, problem=reason_of(done.stdout, done.stderr))
    found = json.loads(told.read_text(encoding="utf-8"))
    if found["interrupted"] or not found["runs"]:
        return JudgedColumn(target, seconds=seconds, problem=f"it was ended after {found['runs']} of {runs} runs")
    findings: dict[Guarantee, tuple[QueueFinding, ...]] = {}
    for finding in found["findings"]:
        guarantee = kind_of(finding["anomaly"]).guarantee
        findings[guarantee] = (*findings.get(guarantee, ()), _finding(finding))
    return JudgedColumn(target, findings, found["runs"], seconds)


def reason_of(stdout: str, stderr: str) -> str:
    """Return why a search judged nothing: its verdict, or else the first lines of an error that are no progress."""
    told = (" ".join(lines.split()) for text in (stdout, stderr) for lines in _NEXT.split(text))
    said = [each for each in told if each and not _PROGRESS.match(each)]
    verdict = [each for each in said if each.startswith(_VERDICTS)]
    return " ".join((verdict or said or ["it ended without a word"])[:2])[:300]


def _plain() -> dict[str, str]:
    return {**os.environ, "CI": "", "NO_COLOR": "1", "COLUMNS": "100"}


def _finding(found: Mapping[str, Any]) -> QueueFinding:
    run = found["run"]
    return QueueFinding(
        found["anomaly"],
        next(each["message"] for each in run["anomalies"] if each["name"] == found["anomaly"]),
        tuple((row["time"], row["actor"], row["text"]) for row in run["rows"]),
        tuple(run["told"][:1]),
        tuple(each["name"] for each in run["stopped_by"]),
    )
