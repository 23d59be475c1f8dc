"""Gives each recorded incident to `job-harness reproduce`, and then compares what it found with the sealed cause.

    python benchmarks/incidents/score.py [--only INCIDENT...] [--seconds 1500] [--at-once 1] [--sealed FOLDER]

`reproduce` gets the record and the target alone. A sealed cause is opened afterwards, and only if its SHA-256 is
the one in `sealed.sha256`. Four more have the record of one system and another as the target: they must end in "cannot
come from".
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from job_harness.core.faults import read_option
from job_harness.core.scenario.job_plan import Ending
from job_harness.core.scenario.reader import read_scenario
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import ORDER
from job_harness.worlds.packages import find_npm

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
MOST_ROWS: Final = 12
MOST_CAUSES: Final = 2
"""A scenario that has more kinds of causes than this explains nothing."""
WRONG: Final = {
    "01-pgboss10": "examples/python-app/system.yaml",
    "08-mail": "examples/guide-app/system.yaml",
    "04-procrastinate": "pgqueuer@1.6.0",
    "03-procrastinate-stuck": "examples/queues/mail.yaml",
}
"""By incident, a target that never wrote its record."""
CAUSES: Final = {
    "stopped process": frozenset({"pause"}),
    "killed by pid": frozenset({"crash"}),
    "cut sockets": frozenset({"lose", "away", "cut", "disconnect"}),
    "slow outside": frozenset({"slow"}),
    "wrong setting": frozenset({"slow"}),
    "work that fails": frozenset({"fails"}),
    "sent again": frozenset({"again"}),
}
"""What a scenario has that comes about by each kind of cause."""


class Scored(NamedTuple):
    """What one incident came to."""

    name: str
    target: str
    code: int
    cpu: float
    rows: int
    has: frozenset[str]
    told: str

    @property
    def fits(self) -> str:
        """What the command says of the causes that the record fits."""
        told = self.told.partition("The record fits th")[2].partition(": ")[2]
        return " ".join(re.split(r"\n(?:To tell them|Also looked|Not looked|How long|\n)", told)[0].split())

    @property
    def reproduced(self) -> bool:
        return self.code == 1 and "cannot come from" not in self.told


def installed(target: str, folder: Path) -> str:
    """Return a target that can run: the guide application needs its packages, which are installed beside a copy."""
    if "guide-app" not in target:
        return target
    copy = folder / "guide-app"
    if not copy.exists():
        shutil.copytree(ROOT / "examples/guide-app", copy)
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        subprocess.run([find_npm(), "install", *options], cwd=copy, check=True, capture_output=True)
    return str(copy / "system.yaml")


def run(name: str, target: str, folder: Path, seconds: int) -> Scored:
    about = json.loads((HERE / "records" / name / "incident.json").read_text())
    record = HERE / "records" / name
    save = folder / f"{name}.yaml"
    sources = [str(record / each) if each.endswith(".jsonl") else each for each in about["sources"]]
    database = ["--database", str(record / about["database"])] if "database" in about else []
    options = [*about.get("options", []), "--time", f"{seconds}s", "--save", str(save)]
    command = ["job-harness", "reproduce", *sources, *database, "--target", installed(target, folder), *options]
    code = (
        "import resource,subprocess,sys\n"
        "done=subprocess.run(sys.argv[1:],capture_output=True,text=True)\n"
        "used=resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "sys.stdout.write(done.stdout);sys.stderr.write(done.stderr[-2000:])\n"
        "sys.stdout.write(f'\\n{used.ru_utime+used.ru_stime}');sys.exit(done.returncode)"
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    told, _, cpu = done.stdout.rpartition("\n")
    (folder / f"{name}-{Path(target).parent.name or target}.txt").write_text(told + done.stderr)
    scenario = read_scenario(save) if save.exists() and done.returncode == 1 else None
    has = frozenset() if scenario is None else _ingredients(scenario)
    return Scored(name, target, done.returncode, float(cpu), _rows(told), has, told)


def _ingredients(scenario: Scenario) -> frozenset[str]:
    """Say by which kinds of cause a scenario comes about."""
    kinds = {read_option(deviation.option).kind for deviation in scenario.tape} - ORDER
    found = {kind.split("_")[0] for kind in kinds}
    lengths = [
        span.resolve(scenario.settings)
        for job in scenario.jobs
        for span in job.takes
        if Ending.HANG not in job.outcomes
    ]
    if any(length >= scenario.settings.lease for length in lengths) or any(
        Ending.HANG in job.outcomes for job in scenario.jobs
    ):
        found.add("slow")
    if any(
        outcome not in (Ending.SUCCEED, Ending.HANG, Ending.EXIT) for job in scenario.jobs for outcome in job.outcomes
    ):
        found.add("fails")
    if any(outcome is Ending.EXIT for job in scenario.jobs for outcome in job.outcomes):
        found.add("crash")  # A job that takes its worker down: no record tells it from a worker that is killed.
    keys = [job.unique_key for job in scenario.jobs if job.unique_key is not None]
    if len(keys) > len(set(keys)) or any(job.retry_after is not None for job in scenario.jobs):
        found.add("again")
    return frozenset(found)


def _rows(told: str) -> int:
    """Count the rows of the first screen: the lines that begin with a time."""
    screen = told.partition("FAIL  ")[2].partition("What was recorded")[0]
    return sum(line.lstrip("…").startswith("t+") for line in screen.splitlines())


def cause(name: str, sealed: Path) -> dict[str, Any]:
    """Open a sealed cause. Raises SystemExit where it is not the one that was sealed."""
    told = (sealed / f"{name}.json").read_bytes()
    known = dict(reversed(line.split()) for line in (HERE / "sealed.sha256").read_text().splitlines())
    if hashlib.sha256(told).hexdigest() != known[f"{name}.json"]:
        raise SystemExit(f"{name}: the sealed cause is not the one whose hash was kept")
    opened: dict[str, Any] = json.loads(told)
    return opened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seconds", type=int, default=1500)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--sealed", type=Path, default=HERE / "sealed")
    parser.add_argument("--keep", type=Path, help="a folder for the scenarios and what was printed")
    arguments = parser.parse_args()
    names = sorted(each.name for each in (HERE / "records").iterdir())
    names = [name for name in names if not arguments.only or any(part in name for part in arguments.only)]
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="incidents-"))
    folder.mkdir(parents=True, exist_ok=True)
    targets = {name: json.loads((HERE / "records" / name / "incident.json").read_text())["target"] for name in names}
    with ThreadPoolExecutor(arguments.at_once) as pool:
        right = list(pool.map(lambda name: run(name, targets[name], folder, arguments.seconds), names))
        wrong = list(
            pool.map(lambda name: run(name, WRONG[name], folder, arguments.seconds), [n for n in names if n in WRONG])
        )
    columns = "incident | target | result | rows | CPU | sealed cause | the scenario has | true cause | the record fits"
    print(f"| {columns} |")
    print("| --- | --- | --- | ---: | ---: | --- | --- | --- | --- |")
    score = 0
    for each in right:
        known = cause(each.name, arguments.sealed)
        small = each.rows <= MOST_ROWS and len(each.has) <= MOST_CAUSES
        true = each.reproduced and small and not CAUSES[known["kind"]].isdisjoint(each.has)
        score += true
        result = "reproduced" if each.reproduced else "cannot come from it" if each.code == 1 else "not found"
        sealed = f"{known['kind']} ({known.get('process', '')})"
        print(
            f"| {each.name} | {each.target} | {result} | {each.rows or ''} | {each.cpu:.0f} s | {sealed} | "
            f"{', '.join(sorted(each.has))} | {'yes' if true else 'no'} | {each.fits} |"
        )
    print(f"\n{score} of {len(right)} are reproduced in at most {MOST_ROWS} rows by their true cause; ", end="")
    print(f"CPU: median {median(each.cpu for each in right):.0f} s, worst {max(each.cpu for each in right):.0f} s.\n")
    print("| record | wrong target | result |\n| --- | --- | --- |")
    for each in wrong:
        told = "cannot come from it" if "cannot come from" in each.told else f"exit code {each.code}"
        print(f"| {each.name} | {each.target} | {told} |")
    print(f"\nPeak memory of a command: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024} MB.")


if __name__ == "__main__":
    main()
