"""What an audit costs: events judged a second, memory for each ended job, and what the log's trigger adds to a change.

python benchmarks/audit.py [--jobs 50000]
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psycopg

from harness.audit import database
from harness.audit.evidence import Chronicle, Evidence, blank
from harness.audit.job_table import read_table
from harness.audit.judging import Auditor
from harness.history.event import Event
from harness.model.lifecycle import Status
from harness.postgres import provision

TABLE = b"""
format: 1
jobs: benchmark
table: jobs
columns:
  {id: job.id, status: job.state, attempts: job.attempts, worker: job.worker, created_at: job.created_at,
   started_at: job.started_at, completed_at: job.done_at}
status: {queued: PENDING, running: PROCESSING, done: COMPLETED}
"""
SCHEMA = """
CREATE TABLE jobs (
  id serial PRIMARY KEY, state text NOT NULL DEFAULT 'queued', attempts int DEFAULT 0, worker text,
  created_at timestamptz DEFAULT now(), started_at timestamptz, done_at timestamptz)
"""
AT_WORK = 100
"""Jobs that are unfinished at any time."""


def events(jobs: int) -> Iterator[Event]:
    """Tell of jobs that are sent, claimed, completed, a hundred at a time."""
    chronicle, queued = Chronicle(), []
    for number in range(jobs):
        at, job = 10**15 + number * 1000, f"{number:08x}-job"
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


def judged(jobs: int) -> Auditor:
    """Judge them with all that a log can show."""
    shows = frozenset(database.SHOWN_BY_LOG)
    auditor = Auditor(Evidence("a benchmark", shows, {}, lambda wanted: iter(()), lambda: 0))
    auditor.take(events(jobs))
    return auditor


def trigger(rounds: int) -> tuple[float, float]:
    """Return microseconds of wall time for one change, without and with the log."""
    cluster = provision()
    try:
        url = cluster.create_database()
        with psycopg.connect(url, autocommit=True) as session:
            session.execute(SCHEMA)
            session.execute("INSERT INTO jobs SELECT FROM generate_series(1, 1000)")
            costs: list[list[float]] = [[], []]
            plan = database.LogPlan(read_table(TABLE, "benchmark", path=""))
            for _ in range(rounds):
                for logged, found in enumerate(costs):
                    text = plan.install_sql() if logged else plan.uninstall_sql("jobs")
                    session.execute(text.encode())
                    began = time.perf_counter()
                    for _ in range(2000):
                        session.execute("UPDATE jobs SET attempts = attempts + 1 WHERE id = 1 + floor(random() * 1000)")
                    found.append((time.perf_counter() - began) / 2000 * 1e6)
            return min(costs[0]), min(costs[1])
    finally:
        cluster.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    began = time.process_time()
    made = sum(1 for _ in events(arguments.jobs))
    between = time.process_time()
    auditor = judged(arguments.jobs)
    ended = time.process_time()
    assert auditor.events == made
    assert not auditor.suspects(0)
    cost = (ended - between) - (between - began)
    print(f"judging: {made} events, {made / cost:,.0f} events/s of CPU (telling them from changes apart)")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = judged(arguments.jobs)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"memory: {(after - before) / kept.jobs:.0f} bytes for each finished job")
    plain, logged = trigger(arguments.rounds)
    print(f"trigger: {plain:.0f} us a change without the log, {logged:.0f} us with it: {logged - plain:.0f} us more")


if __name__ == "__main__":
    main()
