"""Searches public programs, unmodified, and writes `benchmarks/results/programs.md`: `make programs`.

A program is cloned at its commit into FOLDER, unless it is there, and its packages are installed. Beside its own files
come those of `benchmarks/systems/programs/NAME`: a system file, and what fills its database. It ends with 1 where an
anomaly that is in the program is not found, or does not come again by its tape. Usage: --help
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]  # a script runs from a checkout

from benchmarks.systems.__main__ import opened  # noqa: E402 - the path comes first
from benchmarks.systems.clocks import family_seconds  # noqa: E402

from job_harness.core.run.play import play  # noqa: E402
from job_harness.core.run.verdict import Run  # noqa: E402
from job_harness.search.finding import first_difference  # noqa: E402
from job_harness.subjects.systems import SystemEngine  # noqa: E402

FILES: Final = ROOT / "benchmarks/systems/programs"
PAGE: Final = ROOT / "benchmarks/results/programs.md"
FILE: Final = "job-harness.yaml"


class PublicProgram(NamedTuple):
    """A repository at a commit, and what is wrong in it, as its code says."""

    repository: str
    commit: str
    install: tuple[str, ...]
    wrong: dict[str, str]
    """By anomaly, the place in its code."""

    @property
    def name(self) -> str:
        return self.repository.rpartition("/")[2]


PROGRAMS: Final = (
    PublicProgram(
        "Nama-Salameh/webhook-pipeline",
        "1cabf8a",
        ("npm", "ci", "--silent"),
        {
            "silent_success": "`worker.ts`: when all three calls have failed, that is logged, and the job is completed",
            "event_without_job": "`webhook.service.ts`: the event is committed before `boss.send`",
        },
    ),
)


class Searched(NamedTuple):
    """What the runs of one program came to."""

    runs: int
    found: dict[str, Run]
    first: float
    """Seconds of real time until the first of the listed anomalies."""
    cpu: float
    """Seconds of CPU a run, the first one left out."""
    gates: float
    same: int
    """How many of the replays had the same history."""


def placed(program: PublicProgram, folder: Path) -> Path:
    """Clone and install a program, unless that was done, and put our files beside its own; return the system file."""
    where = folder / program.name
    if not where.exists():
        url = f"https://github.com/{program.repository}"
        subprocess.run(["git", "clone", "--quiet", url, str(where)], check=True)
    subprocess.run(["git", "checkout", "--quiet", program.commit], cwd=where, check=True)
    if not (where / "node_modules").exists():
        subprocess.run(program.install, cwd=where, check=True)
    for file in (FILES / program.name).iterdir():
        shutil.copy(file, where)
    return where / FILE


def searched(program: PublicProgram, path: Path, *, runs: int, replays: int) -> Searched:
    """Search until everything listed was met, for at most `runs`; then play each finding again."""
    engine, sampler = opened(path)
    found: dict[str, Run] = {}
    cpu: list[float] = []
    gates: list[int] = []
    first, began = 0.0, time.monotonic()
    try:
        while len(cpu) < runs and not program.wrong.keys() <= found.keys():
            before = family_seconds()
            run = sampler.sample(len(cpu))
            cpu.append(family_seconds() - before)
            gates.append(run.steps)
            for anomaly in run.found:
                found.setdefault(anomaly, run)
            if not first and program.wrong.keys() & found.keys():
                first = time.monotonic() - began
            met = ", ".join(sorted(run.found)) or "nothing"
            print(f"{program.name}: run {len(cpu)}, {cpu[-1]:.1f} s of CPU, {run.steps} steps: {met}", flush=True)
        same = sum(is_same(engine, run) for name, run in found.items() if name in program.wrong for _ in range(replays))
    finally:
        engine.close()
    later = cpu[1:] or cpu
    return Searched(len(cpu), found, first, sum(later) / len(later), sum(gates) / len(gates), same)


def is_same(engine: SystemEngine, run: Run) -> bool:
    """Play a run again by its tape: whether it had the same history."""
    again = play(replace(run.scenario, tape=run.tape), engine=engine, seed=run.seed)
    return first_difference(run.history.events, again.history.events) is None


def row(program: PublicProgram, done: Searched, *, replays: int) -> str:
    """Return the line of the table of a program."""
    lines = sum(len(file.read_text().splitlines()) for file in (FILES / program.name).iterdir())
    met = [name for name in program.wrong if name in done.found]
    others = sorted(done.found.keys() - program.wrong.keys())
    cells = (
        f"{program.repository} `{program.commit}`",
        str(lines),
        f"{len(met)} of {len(program.wrong)}",
        ", ".join(f"`{name}`" for name in others) or "-",
        f"{done.first:.0f}",
        str(done.runs),
        f"{done.gates:.0f}",
        f"{done.cpu:.1f}",
        f"{done.same} of {len(met) * replays}",
    )
    return f"| {' | '.join(cells)} |\n"


HEAD: Final = """# Public programs, searched as they are

Written by `make programs` on {date}. No line of theirs is changed; *lines* are those of our system file and of what
fills the database. *First* is the real time until a listed anomaly was met, start and rehearsal included, on a machine
that other work shares. *CPU* has the harness, the processes and PostgreSQL.

| program | lines | found, listed | others | first, s | runs | steps a run | CPU a run, s | same history by its tape |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def main() -> int:
    """Search the programs, and write the page."""
    parser = argparse.ArgumentParser(prog="make programs", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "build/programs", help="where the clones are")
    parser.add_argument("--runs", type=int, default=30, help="the most runs of each program")
    parser.add_argument("--replays", type=int, default=10, help="how often each finding is played again")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    text, holds = HEAD.format(date=f"{datetime.now(UTC):%Y-%m-%d}"), True
    for program in PROGRAMS:
        done = searched(program, placed(program, options.folder), runs=options.runs, replays=options.replays)
        text += row(program, done, replays=options.replays)
        met = program.wrong.keys() & done.found.keys()
        holds = holds and met == program.wrong.keys() and done.same == len(met) * options.replays
    text += "\nWhat is wrong in each, as its code says:\n\n"
    for program in PROGRAMS:
        text += "".join(f"- {program.name}, `{name}`: {why}.\n" for name, why in program.wrong.items())
    PAGE.write_text(text, encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
