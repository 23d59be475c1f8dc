"""What a run of `pytest --job-explore` costs, against a bare fork of the same process; and how many there are a second.

Usage: .venv/bin/python benchmarks/exploring.py [SECONDS]
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script runs from a checkout
from paired import Aim, interleave, show

from job_harness.engines.reference.application import JobProcessor, ReferenceApplication
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.explored.campaign import TestExploration
from job_harness.search.explored.isolation import Inherited
from job_harness.search.explored.played import InChild
from job_harness.subjects.processors import JobHarness, JobResult, ToolJob, TypeScriptProcessor, effect
from job_harness.subjects.processors.pgboss import work_process, workplace_of
from job_harness.subjects.processors.workplace import MakeWorkplace
from job_harness.worlds.packages import find_typescript_node

RUNS = 20
FEW = 10
MANY = 220
RESIDENT = (0, 100, 350)
"""Megabytes that a test process may have beside the harness: nothing, an application, a large one."""
WANTED = {"TypeScript in memory": 10.0, "Python on pg-boss": 3.0, "TypeScript on pg-boss": 3.0}
"""Runs a second; in memory, where all of a run is measured, for each core."""
WANTED_OF_COPY = 3.0
"""Milliseconds of CPU for one more run of a plain test."""
WANTED_OF_POSTGRES = 25.0
"""The same of a test of `job_postgres`, its server included."""
SOURCE = """
declare const charge: (order: number) => Promise<void>;
export const pay = async (job: { input: { order: number } }) => {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await charge(job.input.order);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  return { success: true };
};
"""
TEST = """
import asyncio
from job_harness import JobResult, effect

async def pay(job):
    await asyncio.sleep(300)
    effect("charged", order=1)
    return JobResult(success=True)

def test_pay(job_harness):
    job_harness.register("pay", pay)
    job_harness.enqueue("pay", {"order": 1})
    job_harness.run_until_idle()
"""

ON_POSTGRES = """
import psycopg
import pytest
from job_harness import JobResult, effect

@pytest.fixture(scope="session")
def job_postgres_schema():
    def migrate(url):
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE paid (job text PRIMARY KEY)")
    return migrate

def test_pay(job_harness, job_postgres):
    async def pay(job):
        async with await psycopg.AsyncConnection.connect(job_postgres.url) as connection:
            await connection.execute("INSERT INTO paid VALUES (%s) ON CONFLICT DO NOTHING", [job.id])
        effect("charged", order=1)
        return JobResult(success=True)

    job_harness.register("pay", pay)
    job_harness.enqueue("pay", {"order": 1})
    job_harness.run_until_idle()
"""


OPENED = {(number, found.st_dev, found.st_ino) for number in range(3) for found in (os.fstat(number),)}
"""What this process has open, as pytest's own is."""


async def pay(job: ToolJob) -> JobResult:
    await asyncio.sleep(1)
    charge(job.input)
    await asyncio.sleep(1)
    return JobResult(success=True)


def charge(order: object) -> None:
    effect("charged", order=str(order))


class Spent:
    """Seconds of this process and of those that it has ended: on the clock, and of a processor's time."""

    def __init__(self) -> None:
        self._began = self._now()

    def _now(self) -> tuple[float, float]:
        mine, theirs = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        used = mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime
        return time.perf_counter(), used

    def __iter__(self) -> Iterator[float]:
        return (now - began for now, began in zip(self._now(), self._began, strict=True))


def forked() -> float:
    """Return the CPU seconds of a fork whose child ends at once."""
    spent = Spent()
    for _ in range(RUNS):
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    return list(spent)[1] / RUNS


def explored(
    processor: JobProcessor, workplace: MakeWorkplace = ReferenceApplication, *, runs: int
) -> tuple[float, float]:
    """Play a campaign that finds nothing; return the seconds of a run on the clock, and its CPU seconds."""
    with JobHarness(workplace=workplace) as harness:
        harness.register("pay", processor)
        campaign = TestExploration(runs=runs)
        campaign.harness = harness
        harness.bench.application.prepare_children()
        campaign.inherited = Inherited.look_at(own=harness.bench.loop.own_descriptors(), opened=OPENED)
        spent = Spent()
        try:
            campaign.explore()
        except InChild as child:
            harness.enqueue("pay", {"order": 7})
            harness.run_until_idle()
            child.child.finish(None)
        wall, used = spent
        assert campaign.played == runs + 2, campaign.unsure
        assert not campaign.lost, campaign.lost
        return wall / campaign.played, used / campaign.played


@contextmanager
def resident(megabytes: int) -> Iterator[None]:
    """Hold so much memory inside the block."""
    held = [bytes([number % 256]) * (1 << 20) for number in range(megabytes)]
    yield
    held.clear()


def with_memory(measure: Callable[[], float], megabytes: int) -> Callable[[], float]:
    """Measure in a process that holds so much memory."""

    def measured() -> float:
        with resident(megabytes):
            return measure()

    return measured


def in_memory() -> float:
    """Return the CPU seconds of a run in memory."""
    return explored(pay, runs=RUNS)[1]


def against_forks(seconds: float) -> None:
    """Print the tables of CPU times against bare forks, in a process of some sizes."""
    why = "What is left are pages that a child copies because it counts references on them, about 2 000 in each run."
    for megabytes in RESIDENT:
        more = f", {megabytes} MB more" if megabytes else ""
        bare, run = f"a bare fork{more}", f"an explored run{more}"
        taken = interleave(
            {bare: with_memory(forked, megabytes), run: with_memory(in_memory, megabytes)}, rounds=10, seconds=seconds
        )
        note = "CPU time of parent and child; a processor in Python, at most a few deviations in each run."
        title = "What does an explored run cost in memory?"
        show(title, taken, base=bare, unit="ms of CPU", scale=1000, aims=[Aim(run, 3.0, why)], note=note)


def node_alone(used: list[float]) -> float:
    """Start Node, which does nothing; return the seconds on the clock, and note those of CPU."""
    spent = Spent()
    subprocess.run([find_typescript_node().path, "-e", "0"], check=True)
    wall, cpu = spent
    used.append(cpu)
    return wall


def whole_test(isolation: str, runs: int, *, text: str = TEST) -> float:
    """Return the CPU seconds of pytest on one test, explored in that many runs, or played plainly where that is 0."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_it.py").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", f"job_isolation={isolation}"]
        explored = ["--job-explore", str(runs)] if runs else []
        spent = Spent()
        subprocess.run([*command, *explored], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return list(spent)[1]


def slope(isolation: str, text: str) -> Callable[[], float]:
    """Return what measures the CPU seconds of one more run of a test."""
    return lambda: (whole_test(isolation, MANY, text=text) - whole_test(isolation, RUNS, text=text)) / (MANY - RUNS)


def by_isolation(seconds: float) -> None:
    """Print what one more run costs in a whole test, by how its runs are kept apart."""
    rows = {kind: slope(kind, TEST) for kind in ("copy", "rerun", "fork")}
    rows |= {f"{kind}, on PostgreSQL": slope(kind, ON_POSTGRES) for kind in ("copy", "fork")}
    taken = interleave(rows, rounds=5, seconds=seconds)
    note = f"CPU time of whole processes, a server of PostgreSQL included: the slope between {RUNS} and {MANY} runs."
    show("What does one more run of `--job-explore` cost?", taken, base="fork", unit="ms of CPU", scale=1000, note=note)
    run = median(taken["copy"]) * 1000
    met = "Met" if run <= WANTED_OF_COPY else "**Missed**"
    why = "A run alone, without pytest, takes most of it: some 250 gates, events and timers, and its profile is flat."
    print(f"\nAim: at most {WANTED_OF_COPY:g} ms for 'copy'. {met}: {run:.1f} ms. {why}")
    run = median(taken["copy, on PostgreSQL"]) * 1000
    met = "Met" if run <= WANTED_OF_POSTGRES else "**Missed**"
    print(f"\nAim: at most {WANTED_OF_POSTGRES:g} ms for 'copy, on PostgreSQL'. {met}: {run:.1f} ms.")


def rates(seconds: float) -> None:
    """Print how many runs a second there are, by where a processor runs."""
    process = work_process("pgboss")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pay.ts"
        path.write_text(SOURCE, encoding="utf-8")
        script = TypeScriptProcessor(f"{path}#pay", globals={"charge": charge})
        boss = workplace_of(process)
        places: dict[str, tuple[JobProcessor, MakeWorkplace, int]] = {
            "Python in memory": (pay, ReferenceApplication, RUNS),
            "TypeScript in memory": (script, ReferenceApplication, FEW),
            "Python on pg-boss": (pay, boss, FEW),
            "TypeScript on pg-boss": (script, boss, FEW),
        }
        try:
            process.begin()
            used: dict[str, list[float]] = {name: [] for name in places}

            def measure(name: str) -> Callable[[], float]:
                def measured() -> float:
                    processor, place, runs = places[name]
                    wall, cpu = explored(processor, place, runs=runs)
                    used[name].append(cpu)
                    return wall

                return measured

            measures = {name: measure(name) for name in places}
            measures["Node alone"] = lambda: node_alone(used.setdefault("Node alone", []))
            rows = interleave(measures, rounds=5, seconds=seconds)
        except EnvironmentUnavailable as error:
            print(f"\nNot measured: {error}")
            return
        finally:
            process.close()
    note = "On the clock. A run of TypeScript has a Node process of its own, another after a crash. Runs on pg-boss "
    note += "share one, which starts pg-boss anew for each. PostgreSQL and that process are not in the CPU times below."
    show("How long does an explored run take?", rows, base="Python in memory", unit="ms", scale=1000, note=note)
    for name, values in used.items():
        print(f"\n{name}: {median(values) * 1000:.0f} ms of CPU, {1 / median(rows[name]):.1f} runs/s on the clock.")
    for name, wanted in WANTED.items():
        rate, core = 1 / median(rows[name]), ""
        if "memory" in name:
            rate, core = 1 / median(used[name]), " a core"
        met = "Met" if rate >= wanted else "**Missed**"
        print(f"\nAim: at least {wanted:g} runs/s{core} for {name!r}. {met}: {rate:.1f} runs/s.")


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    by_isolation(seconds)
    against_forks(seconds)
    rates(seconds)


if __name__ == "__main__":
    main()
