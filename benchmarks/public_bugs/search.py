"""Asks `job-harness explore`, as a user types it, and reads what it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from job_harness.core.scenario.reader import read_scenario
from job_harness.core.scenario.scenario import Scenario
from public_bugs.entry import Entry

PARTS: Final = 100
"""So often a search goes on with another seed, once it met another bug or a run that it cannot have again."""
NEXT: Final = 1_000
"""How far that seed is away."""
GRACE: Final = 300
"""Seconds that opening an engine and making a run small may take beyond the time given."""
TAIL: Final = 300


class NotRun(Exception):
    """The command did not come to a result."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one command came to. `runs` counts up to the finding, where there is one."""

    runs: int
    seconds: float
    anomaly: str | None = None
    scenario: Scenario | None = None
    trouble: str | None = None
    cut: int = 0
    """Runs that were still at work at their limit of steps."""


Ask: TypeAlias = Callable[[Sequence[str], float], Answer]
"""Given the arguments of `job-harness explore`, and the seconds that it may take."""


@dataclass(slots=True)
class Search:
    """What one seed came to, and those that it went on with."""

    release: str
    seed: int
    runs: int = 0
    seconds: float = 0.0
    anomaly: str | None = None
    """None: it was not found."""
    others: int = 0
    """Findings with the same anomaly that are another bug."""
    cut: int = 0
    troubles: list[str] = field(default_factory=list)


def arguments(entry: Entry, release: str, *, seed: int) -> list[str]:
    """Return the arguments of the command that looks for a bug in a release."""
    wanted = [word for anomaly in entry.anomalies for word in ("--looking-for", anomaly)]
    return [release, *entry.options, *wanted, "--seed", str(seed)]


def search(entry: Entry, release: str, *, seed: int, runs: int, seconds: float, ask: Ask) -> Search:
    """Look until the bug shows, or the given runs or seconds are used up.

    A finding that is another bug counts its runs and seconds, and the search goes on with another seed; so it does
    after a run that ended a command otherwise. Raises NotRun where the command has no result.
    """
    result = Search(release, seed)
    for part in range(PARTS):
        left = seconds - result.seconds
        if result.runs >= runs or left <= 0:
            break
        words = arguments(entry, release, seed=seed + part * NEXT)
        answer = ask([*words, "--runs", str(runs - result.runs), "--time", f"{left:.0f}" if left >= 1 else "1"], left)
        result.runs += answer.runs
        result.seconds += answer.seconds
        result.cut += answer.cut
        if answer.anomaly is not None and _is(entry, answer.scenario):
            result.anomaly = answer.anomaly
            break
        result.others += answer.anomaly is not None
        if answer.trouble:
            result.troubles.append(answer.trouble)
        if answer.anomaly is None and not answer.trouble:
            break
    return result


def _is(entry: Entry, scenario: Scenario | None) -> bool:
    return entry.shape is None or (scenario is not None and entry.shape.holds(scenario))


def asked(words: Sequence[str], seconds: float) -> Answer:
    """Run the command in a process of its own.

    Raises NotRun with its last words where it wrote no result, or did not end.
    """
    with tempfile.TemporaryDirectory() as folder:
        report, saved = Path(folder) / "campaign.json", Path(folder) / "found.yaml"
        command = [
            sys.executable,
            "-m",
            "job_harness.doors.cli",
            "explore",
            *words,
            "--json",
            str(report),
            "--save",
            str(saved),
        ]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=2 * seconds + GRACE, check=False)
        except subprocess.TimeoutExpired as error:
            raise NotRun(f"not done after {error.timeout:.0f} s") from error
        if not report.exists() or not report.stat().st_size:
            raise NotRun((ended.stderr or ended.stdout).strip()[-TAIL:] or f"it ended with code {ended.returncode}")
        return answered(json.loads(report.read_text(encoding="utf-8")), saved)


def answered(data: dict[str, Any], saved: Path) -> Answer:
    """Read what `--json` wrote, and the scenario beside it."""
    found = data["findings"]
    if not found:
        return Answer(data["runs"], data["seconds"], trouble=data["trouble"] or data["unsteady"], cut=data["cut"])
    scenario = read_scenario(saved) if saved.exists() else None
    return Answer(found[0]["found_after_runs"], data["seconds"], found[0]["anomaly"], scenario, cut=data["cut"])
