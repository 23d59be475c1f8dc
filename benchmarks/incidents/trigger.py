"""What the trigger of a log costs: the throughput of a queue with and without the log of `audit --install`.

    python benchmarks/incidents/trigger.py [--rounds 7]

Two workers empty a table of jobs: each job is inserted, claimed with SKIP LOCKED and completed, three changes. The work
itself takes no time, or as long as is named. Rounds without and with the log alternate, so that other work on the
machine strikes both alike.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from statistics import median

import psycopg

from job_harness.review.audit.database import LogPlan
from job_harness.review.audit.job_table import read_table
from job_harness.worlds.postgres import provision

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
CLAIM = """
UPDATE jobs SET state = 'running', attempts = attempts + 1, started_at = now(), worker = %s
WHERE id = (SELECT id FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id
"""
DONE = "UPDATE jobs SET state = 'done', done_at = now() WHERE id = %s"


def emptied(url: str, jobs: int, seconds: float) -> float:
    """Return jobs a second."""
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("TRUNCATE jobs")
        began = time.perf_counter()
        for _ in range(jobs):
            session.execute("INSERT INTO jobs DEFAULT VALUES")

        def work(name: str) -> None:
            with psycopg.connect(url, autocommit=True, application_name=name) as own:
                while (row := own.execute(CLAIM, [name]).fetchone()) is not None:
                    time.sleep(seconds)
                    own.execute(DONE, row)

        workers = [threading.Thread(target=work, args=(f"worker-{number}",)) for number in (1, 2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return jobs / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("| work of a job | jobs/s without the log | with it | throughput kept |\n| --- | ---: | ---: | ---: |")
    cluster = provision()
    try:
        url = cluster.create_database()
        plan = LogPlan(read_table(TABLE, "benchmark", path=""))
        with psycopg.connect(url, autocommit=True) as session:
            session.execute(SCHEMA)
            for seconds, jobs in ((0.0, 600), (0.01, 200), (0.1, 40)):
                pairs = []
                for _ in range(arguments.rounds):
                    session.execute(plan.uninstall_sql("jobs").encode())
                    plain = emptied(url, jobs, seconds)
                    session.execute(plan.install_sql().encode())
                    pairs.append((plain, emptied(url, jobs, seconds)))
                kept = median(logged / plain for plain, logged in pairs)
                told = (median(side) for side in zip(*pairs, strict=True))
                named = "none" if not seconds else f"{seconds * 1000:.0f} ms"
                print(f"| {named} | {' | '.join(f'{each:.0f}' for each in told)} | {kept:.1%} |", flush=True)
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
