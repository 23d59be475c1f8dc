"""Explores the agents and workflows in examples/agents with their libraries' own code: the wrong ones, then the right.

Usage: .venv-libraries/bin/python benchmarks/workflows [--only WORD] [--without WORD] [--silent N] [--seeds N]
       [--processes N] [--page]

A wrong program has to be found in at most 20 runs with each seed, and a right one has to be silent in N runs (500),
which the seeds share, with nothing that was not judged. It ends with 1 where one does not. One whose library is not
installed is left out, with a line. `--page` keeps the row of each program that was played whole in
results/workflows.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "examples/agents"
PAGE: Final = ROOT / "benchmarks/results/workflows.md"
FOUND_WITHIN: Final = 20
HEAD: Final = f"""# Workflows and agents, wrong and right

Written by `make workflows ARGS=--page`. Each program of `examples/agents` is explored with the
library's own code: the wrong form with several seeds, in at most {FOUND_WITHIN} runs each, and the right one in as many
runs as the row says, for each of its stores, which the seeds share. A row is from its own last run, on two cores beside
other work, and what a run costs is what it cost there. Without a harness, in a loop at the same load,
LangGraph's agent of two steps takes 10 ms of CPU on SQLite and 3 in memory. DBOS takes 45 to launch, run one workflow
and end: above its aim already. dbos-app is a system file, which leaves out `job_stuck`:
[why](../../docs/dbos_typescript.md).

| program | library | wrong: seeds that found it | after runs | right: silent in | CPU of a run | aim | date | commit |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


class Program(NamedTuple):
    """One file of examples/agents with a wrong form and a right one; or a system, which costs seconds a run."""

    name: str
    library: str
    module: str
    anomaly: str = "effect_repeated"
    aim: str = ""
    is_system: bool = False

    @property
    def is_there(self) -> bool:
        """Whether its library is installed, or npm for what it installs itself."""
        return shutil.which("npm") is not None if self.is_system else find_spec(self.module) is not None

    @property
    def release(self) -> str:
        """The library and its version, as its row shows them."""
        return self.library if self.is_system else f"{self.library} {metadata.version(self.library)}"


PROGRAMS: Final = (
    Program("agent_framework", "agent-framework-core", "agent_framework"),
    Program("approval", "langgraph", "langgraph"),
    Program("approved_call", "langgraph", "langgraph", anomaly="invariant_violated"),
    Program("dbos", "dbos", "dbos", aim="40 ms"),
    Program("dbos_postgres", "dbos", "dbos"),
    Program("langgraph", "langgraph", "langgraph", aim="15 ms"),
    Program("pydantic_ai", "pydantic-ai-slim", "pydantic_ai"),
    Program("three_tools", "langgraph", "langgraph"),
    Program("dbos-app", "@dbos-inc/dbos-sdk 5.3.0", "", is_system=True),
)


class Ended(NamedTuple):
    """What playing one form of a program with one seed came to."""

    well: bool
    runs: int
    """Until the finding; of a silent one, all of them."""
    cpu: float
    """Milliseconds of CPU a run; 0 where it was not told."""
    said: str


def explore(program: Program, kind: str, *, runs: int, seed: int) -> Ended:
    """Explore one form of a program."""
    if program.is_system:
        return explore_system(program, kind, runs=runs, seed=seed)
    command = [sys.executable, "-m", "pytest", f"test_{program.name}.py", "-q", "-rA", "-k", kind]
    options = ["-W", "ignore", "-p", "no:cacheprovider", "--job-strict", f"--job-explore={runs}", f"--job-seed={seed}"]
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    ended = subprocess.run([*command, *options], cwd=FOLDER, env=environment, capture_output=True, text=True)
    cpu = max(map(int, re.findall(r"(\d+) ms of CPU each", ended.stdout)), default=0)
    if kind == "right":
        played = [int(count) for count in re.findall(r"^(\d+) disturbed runs? in ", ended.stdout, re.MULTILINE)]
        return Ended(ended.returncode == 0, min(played, default=0), cpu, ended.stdout)
    found = [int(runs or 0) for runs in re.findall(r"^Found in (?:(\d+)|the) ", ended.stdout, re.MULTILINE)]
    failed = re.findall(r"^FAIL  (\w+) in ", ended.stdout, re.MULTILINE)
    well = (
        ended.returncode == 1
        and len(failed) == len(found)
        and program.anomaly in failed
        and not re.search("^PASSED|^SKIPPED", ended.stdout, re.MULTILINE)
    )
    return Ended(well, max(found, default=0), cpu, ended.stdout)


def explore_system(program: Program, kind: str, *, runs: int, seed: int) -> Ended:
    """Search a system of Node, in a copy into which npm installs what it needs."""
    with tempfile.TemporaryDirectory() as folder:
        system = shutil.copytree(ROOT / "examples" / program.name, Path(folder, program.name))
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=system, check=True)
        command = [sys.executable, "-m", "job_harness.doors.cli", "explore", "system.yaml", "--quiet"]
        environment = {**os.environ, "PAYMENTS_REPAIRED": str(kind == "right").lower()}
        limits = [f"--runs={runs}", f"--seed={seed}"]
        ended = subprocess.run([*command, *limits], cwd=system, env=environment, capture_output=True, text=True)
    said = ended.stdout + ended.stderr
    if kind == "right":
        silent = re.search(r"^pass: no anomaly on \S+ in (\d+) runs", said, re.MULTILINE)
        return Ended(ended.returncode == 0, int(silent[1]) if silent else 0, 0, said)
    found = re.search(r"^Found in (\d+) run", said, re.MULTILINE)
    well = ended.returncode == 1 and found is not None and program.anomaly in said
    return Ended(well, int(found[1]) if found else 0, 0, said)


def explore_right(program: Program, *, silent: int, seeds: int, processes: int) -> Ended:
    """Explore the right form of a program in silent runs, which the seeds share."""
    shares = [silent // seeds + (seed < silent % seeds) for seed in range(seeds)]

    def share(seed: int) -> Ended:
        return explore(program, "right", runs=shares[seed], seed=seed)

    before = os.times()
    with ThreadPoolExecutor(processes) as pool:
        parts = list(pool.map(share, range(seeds)))
    after = os.times()
    cpu = 1000 * (sum(after[2:4]) - sum(before[2:4])) / silent if program.is_system else max(each.cpu for each in parts)
    said = "\n".join(each.said[-3000:] for each in parts if not each.well)
    runs = sum(each.runs for each in parts)
    return Ended(all(each.well for each in parts) and runs == silent, runs, cpu, said)


def play(program: Program, *, silent: int, seeds: int, processes: int) -> str | None:
    """Play a program, print the outcome, and return its row; None where it did not end as it has to."""
    began, found = time.monotonic(), [explore(program, "wrong", runs=FOUND_WITHIN, seed=seed) for seed in range(seeds)]
    right = explore_right(program, silent=silent, seeds=seeds, processes=processes)
    cpu = f"{right.cpu / 1000:.1f} s" if right.cpu >= 1000 else f"{right.cpu:.0f} ms"
    counts = [each.runs for each in found if each.well]
    after = "-" if not counts else f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    print(
        f"{program.name:<16} wrong: found with {len(counts)} of {seeds} seeds, after {after} runs; right: "
        f"{'silent' if right.well else 'NOT SILENT'} in {right.runs} runs, {cpu} of CPU each; "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )
    bad = [each.said[-3000:] for each in (*found, right) if not each.well]
    print(*bad, sep="\n", end="", flush=True)
    if bad:
        return None
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    cells = [program.release, f"{len(counts)} of {seeds}", after, f"{right.runs} runs", cpu, program.aim]
    return " | ".join([f"| {program.name}", *cells, f"{datetime.now(UTC):%Y-%m-%d}", f"`{commit.strip()}` |"])


def keep(row: str) -> None:
    """Put a row in the place of the one that the page has of its program."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    rows = {line.split(" | ")[0]: line for line in page.splitlines() if " | " in line and not line.startswith("| pro")}
    rows[row.split(" | ")[0]] = row
    order = [f"| {program.name}" for program in PROGRAMS]
    lines = sorted((rows[name] for name in rows if name in order), key=lambda line: order.index(line.split(" | ")[0]))
    PAGE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """Play all of them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--without", action="append", default=[], metavar="WORD", help="leave out what is named so")
    parser.add_argument("--silent", type=int, default=500, metavar="N", help="runs of each right program (500)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds of each program (5)")
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="how many seeds of a right program at once"
    )
    parser.add_argument("--page", action="store_true", help="keep the rows in results/workflows.md")
    asked = parser.parse_args()
    bad = 0
    for program in PROGRAMS:
        if asked.only not in program.name or any(word in program.name for word in asked.without):
            continue
        if not program.is_there:
            print(f"{program.name:<16} left out: {program.library} is not installed", flush=True)
            continue
        row = play(program, silent=asked.silent, seeds=asked.seeds, processes=asked.processes)
        bad += row is None
        if row is not None and asked.page:
            keep(row)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
