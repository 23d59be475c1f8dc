"""What an audit costs: events judged a second, memory for each ended job, a page in a browser, and the log's trigger.

python benchmarks/audit.py [--memory-events 10000000]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psycopg
from benchmarks.incidents.trigger import SCHEMA, TABLE
from tests.docs.browser import MISSING, opened_browser

from job_harness.core.history.event import Event
from job_harness.core.model.lifecycle import Status
from job_harness.core.run.play import play
from job_harness.core.scenario.reader import read_scenario_text
from job_harness.engines.memory import MemoryEngine
from job_harness.report.case import Case
from job_harness.report.json_report import report_data
from job_harness.report.picture import picture
from job_harness.review.audit import database
from job_harness.review.audit.evidence import Chronicle, Evidence, blank
from job_harness.review.audit.job_table import read_table
from job_harness.review.audit.judging import Auditor
from job_harness.worlds.postgres import provision

AT_WORK = 100
"""Jobs that are unfinished at any time."""
SPEED_EVENTS = 1_000_000
WARM_EVENTS = 500_000
"""After these, Python has as much memory as it needs for the work itself."""
CHANGES = 2_000
PAGE_STEPS = 10_000
IDLE = 0.5
"""Runnable processes for each core, over the last minute, below which the machine counts as idle."""


def events() -> Iterator[Event]:
    """Tell without end of jobs that are sent, claimed, completed, a hundred at a time."""
    chronicle, queued, number = Chronicle(), [], 0
    while True:
        at, job = 10**15 + number * 1000, f"{number:08x}-job"
        number += 1
        sent = blank(job, created_at=at, start_after=at, max_attempts=3)
        yield from chronicle.change(at, "sender", None, sent)
        queued.append(sent)
        if len(queued) == AT_WORK:
            for one in queued:
                running = blank(
                    one.id, Status.PROCESSING, attempts=1, token=1, worker="w", started_at=at, lease_until=at + 10**9
                )
                yield from chronicle.change(at, "w", one, running)
                done = blank(one.id, Status.COMPLETED, attempts=1, token=1, started_at=at, completed_at=at)
                yield from chronicle.change(at, "w", running, done)
            queued = []


def new_auditor() -> Auditor:
    """Judge all that a log can show."""
    return Auditor(Evidence("a benchmark", frozenset(database.SHOWN_BY_LOG), {}, lambda wanted: iter(()), lambda: 0))


def judging(count: int, rounds: int) -> list[float]:
    """Return events judged in a second of CPU; to make them is not counted."""
    found = []
    for _ in range(rounds):
        made = list(islice(events(), count))
        auditor = new_auditor()
        began = time.process_time()
        auditor.take(made)
        found.append(count / (time.process_time() - began))
        assert auditor.events == count
        assert not auditor.suspects(0)
    return found


def memory(count: int) -> tuple[float, int]:
    """Return by how many bytes this process grew for each job that ended, and how many did."""
    auditor, source = new_auditor(), events()
    auditor.take(islice(source, min(count // 2, WARM_EVENTS)))
    before, jobs = _peak(), auditor.jobs
    auditor.take(islice(source, count - auditor.events))
    return (_peak() - before) / (auditor.jobs - jobs), auditor.jobs


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def trigger(rounds: int) -> list[tuple[float, float]]:
    """Return microseconds for one change, without and with the log, in each round."""
    cluster = provision()
    try:
        url = cluster.create_database()
        with psycopg.connect(url, autocommit=True) as session:
            session.execute(SCHEMA)
            session.execute("INSERT INTO jobs SELECT FROM generate_series(1, 1000)")
            plan = database.LogPlan(read_table(TABLE, "benchmark", path=""))
            pairs = []
            for _ in range(rounds):
                cost = []
                for text in (plan.uninstall_sql("jobs"), plan.install_sql()):
                    session.execute(text.encode())
                    began = time.perf_counter()
                    for _ in range(CHANGES):
                        session.execute("UPDATE jobs SET attempts = attempts + 1 WHERE id = 1 + floor(random() * 1000)")
                    cost.append((time.perf_counter() - began) / CHANGES * 1e6)
                pairs.append((cost[0], cost[1]))
            return pairs
    finally:
        cluster.stop()


def page(folder: Path) -> tuple[int, int, Path]:
    """Draw a run of 10 000 steps; return how many steps it had, how many are drawn, and the file."""
    jobs = "\n".join(f"  j{number}: {{takes: 1s, outcomes: [fail, fail, succeed]}}" for number in range(1000))
    text = f"format: 1\nworkers: [w1, w2, w3]\nsettings: {{max_attempts: 3}}\njobs:\n{jobs}\n"
    run = play(read_scenario_text(text, path="many.yaml"), engine=MemoryEngine())
    document = report_data([Case(run.scenario, "memory", run)])
    assert len(run.history) >= PAGE_STEPS
    html = picture(document)
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    return len(run.history), html.count('class="row step'), file


def opening(file: Path, folder: Path, rounds: int) -> list[tuple[float, float]]:
    """Return milliseconds until the page is painted: by the clock, and of CPU of the page's thread."""
    found = []
    with opened_browser(folder / "profile") as browser:
        browser.emulate(width=1280, height=900)
        for _ in range(rounds):
            browser.count_cpu()
            browser.open(file)
            clock = browser.run_to_the_end(
                "const done = arguments[0];"
                "requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())))"
            )
            found.append((float(clock), browser.cpu_seconds() * 1000))
    return found


def surroundings(load: float) -> str:
    """Say when it was measured, and whether other work was going on."""
    cores = os.cpu_count() or 1
    state = "an idle machine" if load / cores < IDLE else f"a busy machine (load {load:.1f})"
    return f"Measured on {datetime.now(UTC):%Y-%m-%d} on {state} with {cores} cores."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-events", type=int, default=10_000_000)
    parser.add_argument("--memory-alone", action="store_true", help="only that, in this process")
    parser.add_argument("--page-alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.page_alone:
        _page_rows(arguments.rounds)
        return
    if arguments.memory_alone:
        print(*memory(arguments.memory_events))
        return
    load = os.getloadavg()[0]
    print(f"{surroundings(load)}\n\n| | median | best | aim |\n| --- | ---: | ---: | ---: |")
    speeds = judging(SPEED_EVENTS, arguments.rounds)
    _row(
        f"a history of {_count(SPEED_EVENTS)} events is judged", speeds, "events/s of CPU", "at least 50 000", best=max
    )
    own = [sys.executable, __file__, "--memory-alone", "--memory-events", str(arguments.memory_events)]
    grown, jobs = subprocess.run(own, capture_output=True, text=True, check=True).stdout.split()
    told = f"memory for each of {_count(int(jobs))} jobs that ended, in {_count(arguments.memory_events)} events"
    _row(told, [float(grown)], "bytes", "at most 100", best=min)
    pairs = trigger(arguments.rounds)
    _row("a change of a row, without the log", [plain for plain, _ in pairs], "us", "", best=min)
    _row("what the log's trigger adds to it", [logged - plain for plain, logged in pairs], "us", "", best=min)
    _page_rows(arguments.rounds)
    print(f"\n{arguments.rounds} rounds; memory is measured once, in a process of its own.")


def _page_rows(rounds: int) -> None:
    if MISSING:
        print(f"| a page in a browser | not measured: {MISSING} | | |")
        return
    with tempfile.TemporaryDirectory() as name:
        steps, drawn, file = page(Path(name))
        opened = opening(file, Path(name), rounds)
    told = f"the page of a run of {_count(steps)} steps, of which {drawn} are drawn, is painted"
    _row(told, [clock for clock, _ in opened], "ms", "at most 2 000", best=min)
    _row("the same, CPU of the page's thread", [cpu for _, cpu in opened], "ms", "", best=min)


def _count(number: float) -> str:
    return f"{number:,.0f}".replace(",", " ")


def _row(name: str, values: list[float], unit: str, aim: str, *, best: object) -> None:
    shown = [f"{_count(value)} {unit}" for value in (median(values), best(values))]  # type: ignore[operator]
    print(f"| {name} | {shown[0]} | {shown[1]} | {aim} |", flush=True)


if __name__ == "__main__":
    main()
