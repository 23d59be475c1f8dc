"""How fast one process drains a queue: the reference worker, its store alone, pg-boss and graphile-worker, in turn.

The server writes as one for production does (fsync, synchronous_commit), into the folder for temporary files; tables
are analysed. The first of each round is another one, so that none has the warm server for itself.

Usage: .venv/bin/python benchmarks/drains.py [ROUNDS] [JOBS]
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script runs from a checkout
import psycopg
from paired import ratios
from throughput import TOOL, one_turn, stocked

from job_harness.worlds.packages import find_node, npm_package
from job_harness.worlds.postgres import Cluster, launcher, provision
from job_harness_reference.config import Config
from job_harness_reference.models import JobResult, ToolJob
from job_harness_reference.registry import Registry
from job_harness_reference.store.database import ConnectionDatabase, connect, open_database
from job_harness_reference.store.grouped import GroupingStore
from job_harness_reference.store.migrations import migrate
from job_harness_reference.store.postgres import PostgresStore
from job_harness_reference.store.wakeup import listen
from job_harness_reference.worker import Worker

JOBS = 20_000
BATCH = 50
SLOTS = 12
"""Connections of each pool."""
FEW, MANY, CLAIMS = 1_000, 200_000, 15
PACKAGES = {
    "pg-boss 12": ("pg-boss", "12.38.0", "pg@8.23.1"),
    "graphile-worker": ("graphile-worker", "0.18.0", "pg@8.23.1"),
}
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "max_wal_size": "1GB"}
WORKER, STORE = "reference worker", "its store alone"


async def by_the_worker(url: str, jobs: int) -> float:
    """Return the seconds in which one worker has done all jobs."""
    done = asyncio.Event()
    left = jobs

    async def work(job: ToolJob) -> JobResult:
        nonlocal left
        left -= 1
        if not left:
            done.set()
        return JobResult(success=True)

    registry = Registry()
    registry.register_processor(TOOL, work)
    config = Config(database_url=url, use_pgboss_workers="true", pgboss_batch_size=BATCH)
    async with open_database(url, max_size=SLOTS) as database:
        worker = Worker(
            GroupingStore(database), registry, config=config, name="w", jitter=lambda: 0.0, wakeups=listen(url)
        )
        began = time.perf_counter()
        running = asyncio.create_task(worker.run())
        await done.wait()
        worker.stop()
        await running
        return time.perf_counter() - began


async def by_the_store(url: str, jobs: int) -> float:
    """Return the seconds in which claims and completions of batches alone have done them."""
    connection = await connect(url)
    try:
        store = PostgresStore(ConnectionDatabase(connection))
        began = time.perf_counter()
        while await one_turn(store, BATCH):
            pass
        return time.perf_counter() - began
    finally:
        await connection.close()


def in_node(name: str, cluster: Cluster, jobs: int) -> float:
    """Return the seconds in which a package has done them, in a database of its own."""
    package, version, *beside = PACKAGES[name]
    folder, url = npm_package(package, version, *beside), cluster.create_database()
    script = Path(__file__).with_name("drain.mjs")
    given = (package, str(folder), url, str(jobs), str(BATCH))
    done = subprocess.run(
        [find_node().path, str(script), *given], capture_output=True, text=True, timeout=200, check=True
    )
    cluster.drop_database(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
    return float(done.stdout)


async def claiming(url: str, waiting: int) -> float:
    """Return the median seconds of a claim while that many jobs wait."""
    await stocked(url, waiting)
    connection = await connect(url)
    try:
        store = PostgresStore(ConnectionDatabase(connection))
        taken = []
        for _ in range(CLAIMS):
            began = time.perf_counter()
            assert await store.claim(worker="w", tools=[TOOL], limit=1)
            taken.append(time.perf_counter() - began)
        return median(taken)
    finally:
        await connection.close()


def measure(rounds: int, jobs: int = JOBS) -> tuple[dict[str, list[float]], float]:
    """Return the jobs a second of each, round by round, and the cost of a claim among many as a ratio to few."""
    launcher.SETTINGS.update(DURABLE)
    with provision(roots=(Path(tempfile.gettempdir()),)) as cluster:
        url = cluster.create_database()
        asyncio.run(migrate(url))

        def stocked_first(drain: Callable[[], float]) -> Callable[[], float]:
            return lambda: (asyncio.run(stocked(url, jobs)), drain())[1]

        drains = {
            WORKER: stocked_first(lambda: asyncio.run(by_the_worker(url, jobs))),
            STORE: stocked_first(lambda: asyncio.run(by_the_store(url, jobs))),
            **{name: (lambda name=name: in_node(name, cluster, jobs)) for name in PACKAGES},
        }
        rows: dict[str, list[float]] = {name: [] for name in drains}
        for number in range(rounds):
            names = list(drains)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                rows[name].append(jobs / drains[name]())
        pairs = [[asyncio.run(claiming(url, waiting)) for waiting in (FEW, MANY)] for _ in range(rounds)]
        return rows, median(many / few for few, many in pairs)


def main() -> None:
    rounds, jobs = (int(given) for given in (*sys.argv[1:], *(3, JOBS)[len(sys.argv) - 1 :]))
    rows, claims = measure(rounds, jobs)
    found = ratios(rows, WORKER)
    print(f"### How fast are {jobs} jobs drained in batches of {BATCH}, on a server that writes for good?\n")
    print("| | jobs/s | the reference worker's to it |\n| --- | ---: | ---: |")
    for name, values in rows.items():
        print(f"| {name} | {median(values):,.0f} | {1 / found[name]:.2f}x |")
    print(f"\n{rounds} rounds, medians. A claim while {MANY} jobs wait takes {claims:.2f}x of one while {FEW} do.")


if __name__ == "__main__":
    main()
