"""Runs `check` on public repositories in a folder, and holds it against what readers of their code wrote down.

Usage: .venv/bin/python benchmarks/wild/__main__.py FOLDER [--list FILE] [--only OWNER/NAME]

FOLDER holds each repository as `owner+name`, `owner/name` or `name`, at the commit of the list. None is fetched here.
It ends with 1 where a listed problem is missed, precision is below 95 %, or a repository without a true finding fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

PRECISION = 0.95
LOUD = ("error", "warning")


@dataclass
class Tally:
    """What is counted over all repositories; `false` are errors and warnings that no verdict bears out."""

    true: list[str] = field(default_factory=list)
    arguable: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    red: list[str] = field(default_factory=list)
    """Repositories without a true finding that fail."""
    absent: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float:
        """The share of errors and warnings that are true problems."""
        said = len(self.true) + len(self.arguable) + len(self.false)
        return len(self.true) / said if said else 1.0


def folder_of(root: Path, repository: str) -> Path | None:
    """Find a repository under any of the names that it may have."""
    names = (repository.replace("/", "+"), repository, repository.partition("/")[2])
    return next((root / name for name in names if (root / name).is_dir()), None)


def checked(folder: Path) -> tuple[dict[str, Any], float]:
    """Run the command as a user does; answers its report and the seconds."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "job_harness.doors.cli", "check", str(folder), "--json", "-"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 1, 3):
        raise SystemExit(f"{folder}: exit code {ended.returncode}\n{ended.stderr}")
    return json.loads(ended.stdout), time.perf_counter() - started


def meets(finding: Mapping[str, Any], verdict: Mapping[str, Any]) -> bool:
    """Tell whether a finding is what a verdict speaks of: the same rule, in that file or below that folder."""
    file, place = str(finding["file"]), str(verdict["file"])
    return finding["rule"] == verdict["rule"] and (file == place or file.startswith(place.rstrip("/") + "/"))


def judge(entry: Mapping[str, Any], report: Mapping[str, Any], tally: Tally) -> Iterator[str]:
    """Count what one report says, and list it."""
    verdicts: Sequence[Mapping[str, Any]] = entry["verdicts"]
    repository = entry["repo"]
    loud = [finding for finding in report["findings"] if finding["severity"] in LOUD]
    for finding in loud:
        found = next((one for one in verdicts if meets(finding, one)), None)
        kind = "false" if found is None else str(found["verdict"])
        told = f"{repository}: {finding['rule']} {finding['file']}:{finding['line']}"
        getattr(tally, kind).append(told)
        if kind != "true":
            yield f"  {kind}: {finding['severity']} {told}"
    for verdict in verdicts:
        if verdict["verdict"] == "true" and not any(meets(finding, verdict) for finding in report["findings"]):
            tally.missed.append(f"{repository}: {verdict['rule']} {verdict['file']}")
            yield f"  missed: {tally.missed[-1]}"
    if report["exit_code"] == 1 and not any(one["verdict"] == "true" for one in verdicts):
        tally.red.append(repository)
        yield f"  red without a true finding: {repository}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--list", type=Path, default=Path(__file__).with_name("wild.yaml"))
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    document = YAML(typ="safe").load(arguments.list.read_text(encoding="utf-8"))
    tally = Tally()
    for entry in document["repositories"]:
        if arguments.only not in entry["repo"]:
            continue
        folder = folder_of(arguments.folder, entry["repo"])
        if folder is None:
            tally.absent.append(entry["repo"])
            continue
        report, seconds = checked(folder)
        print(f"{entry['repo']}: exit {report['exit_code']}, {report['files']} files, {seconds:.1f} s")
        for line in judge(entry, report, tally):
            print(line)
    print(
        f"\n{len(tally.true)} true, {len(tally.arguable)} arguable, {len(tally.false)} false: precision "
        f"{tally.precision:.0%}; {len(tally.missed)} missed; {len(tally.red)} red without a true finding; "
        f"{len(tally.absent)} not in the folder"
    )
    return int(bool(tally.missed or tally.red) or tally.precision < PRECISION)


if __name__ == "__main__":
    sys.exit(main())
