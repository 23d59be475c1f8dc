"""What other people's queues cost under the harness: runs a second, and a job against the same job without us.

Usage: .venv/bin/python benchmarks/engines.py [ROUNDS [RUNS]]

The aim for a campaign is 10 000 runs on pg-boss's SQL in 10 minutes on two cores: `engines.py 0 10000` does them all.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psycopg
from paired import Aim, interleave, seconds_of, show

from job_harness.core.model.settings import Settings
from job_harness.core.port import Engine, JobRequest
from job_harness.core.sim.clock import Clocks
from job_harness.engines.pgboss import PgBossEngine
from job_harness.engines.pgboss.node import open_engine as open_node
from job_harness.engines.pgboss.package import NEWEST_OF_10, load
from job_harness.engines.pgboss.translation import result_text, send_values, uuid_of
from job_harness.search.sampling import Sampler, Strategy, run_seed
from job_harness.search.targets import open_engine
from job_harness.worlds.packages import run
from job_harness.worlds.peers import find_node, npm_package
from job_harness.worlds.wire.database import ForeignDatabase

SECONDS: Final = 60
RUNS: Final = 20
JOBS: Final = 200
NEWEST_OF_12: Final = "12.38.0"
ENGINES: Final = ("postgres", "pgboss", f"pgboss-node@{NEWEST_OF_10}", f"pgboss-node@{NEWEST_OF_12}", "graphile-worker")
AIM_RUNS: Final = 10_000
SETTINGS: Final = Settings()


def through(engine: Engine) -> Callable[[], float]:
    """Send, fetch and complete through an engine: seconds a job."""

    def measure() -> float:
        clocks = Clocks()
        queue: Any = engine.open(SETTINGS, clocks, lambda: 0.0)

        def work() -> None:
            for number in range(JOBS):
                assert queue.enqueue(JobRequest(f"j{number}")).done
                (claim,) = queue.claim("w1", 1).value
                assert queue.complete(claim, {"value": None}).done

        return seconds_of(work) / JOBS

    return measure


def bare(database: ForeignDatabase, session: psycopg.Connection[Any]) -> Callable[[], float]:
    """Send, fetch and complete by the same statements in psycopg."""
    texts = load(NEWEST_OF_10).statements
    send, fetch, complete = (str(texts[name]).encode() for name in ("send", "fetch", "complete"))

    def measure() -> float:
        database.empty("pgboss.job")
        output = result_text({"value": None})

        def work() -> None:
            for number in range(JOBS):
                request = JobRequest(f"j{number}")
                database.set_now(0)
                session.execute(send, send_values(request, SETTINGS), prepare=True).fetchall()
                database.set_now(1)
                assert session.execute(fetch, ["tool", 1], prepare=True).fetchall()
                session.execute(complete, ["tool", [uuid_of(request.id)], output], prepare=True).fetchall()

        return seconds_of(work) / JOBS

    return measure


def sql(rounds: int) -> None:
    """pg-boss by its own SQL."""
    engine = PgBossEngine(NEWEST_OF_10)
    try:
        engine.session().create_queue("tool", now=0)
        database = engine.session().database
        factory = psycopg.RawCursor
        with psycopg.connect(database.url, autocommit=True, cursor_factory=factory) as session:
            measures = {"bare statements": bare(database, session), "the engine": through(engine)}
            rows = interleave(measures, rounds=rounds, seconds=SECONDS)
    finally:
        engine.close()
    aim = Aim("the engine", 1.5, "Values are made into views and outcomes.")
    note = "Both move the database's clock by a microsecond between send and fetch, without which nothing is due."
    show(
        f"A job sent, fetched and completed by the SQL of pg-boss {NEWEST_OF_10}",
        rows,
        base="bare statements",
        unit="ms",
        scale=1000,
        aims=[aim],
        note=note,
    )


def node(rounds: int) -> None:
    """pg-boss in Node."""
    engine = open_node(NEWEST_OF_12)
    path = find_node((22, 12)).path
    script = str(Path(__file__).with_name("pgboss_direct.mjs"))
    database = ForeignDatabase()
    command = [path, script, str(npm_package("pg-boss", NEWEST_OF_12)), database.url, str(JOBS)]

    def direct() -> float:
        told = run(command, seconds=SECONDS, what="pg-boss did not run", hint="")
        database.empty("pgboss.job")
        return float(told.split()[-1]) / 1000 / JOBS

    try:
        rows = interleave({"in Node": direct, "the engine": through(engine)}, rounds=rounds, seconds=SECONDS)
    finally:
        engine.close()
        database.close()
    aim = Aim("the engine", 2.0, "Three questions a job cross a pipe, each waking two processes.")
    show(
        f"A job sent, fetched and completed by pg-boss {NEWEST_OF_12}",
        rows,
        base="in Node",
        unit="ms",
        scale=1000,
        aims=[aim],
    )


def speeds(rounds: int) -> None:
    """The same seeds of the generic workload on every engine, in steps a second."""

    def speed(engine: Engine) -> Callable[[], float]:
        sampler = Sampler(engine, strategy=Strategy.UNIFORM)

        def measure() -> float:
            steps: list[int] = []

            def sample() -> None:
                steps.extend(sampler.sample(run_seed(0, number)).steps for number in range(RUNS))

            taken = seconds_of(sample)
            return sum(steps) / taken

        return measure

    engines = {name: open_engine(name) for name in ENGINES}
    try:
        measures = {engine.info.name: speed(engine) for engine in engines.values()}
        rows = interleave(measures, rounds=rounds, seconds=SECONDS)
    finally:
        for engine in engines.values():
            engine.close()
    show("How many steps a second?", rows, base="postgres", unit="steps/s", note="Drawn from the generic workload.")


def campaign(runs: int) -> None:
    """A whole campaign by the command of a user: everything that shows is made small and told."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "campaign.json"
        command = [
            sys.executable,
            "-m",
            "job_harness.doors.cli",
            "explore",
            f"pgboss@{NEWEST_OF_10}",
            "--runs",
            str(runs),
        ]
        options = [
            "--keep-going",
            "--processes",
            "2",
            "--json",
            str(report),
            "--save",
            str(report.with_name("found.yaml")),
        ]
        taken = seconds_of(lambda: subprocess.run([*command, *options], check=False, capture_output=True))
        told = json.loads(report.read_text(encoding="utf-8"))
    found = ", ".join(f"`{item['anomaly']}`" for item in told["findings"]) or "nothing"
    print(f"\n### How long does a campaign on pgboss@{NEWEST_OF_10} take?\n")
    print("| runs | steps | seconds | runs/s | 10 000 runs at that rate | aim |")
    print("| --- | --- | --- | --- | --- | --- |")
    rate = told["runs"] / taken
    minutes = AIM_RUNS / rate / 60
    print(f"| {told['runs']} | {told['steps']} | {taken:.0f} | {rate:.0f} | {minutes:.1f} min | 10 min |\n")
    print(f"Two processes, the start of the engine and making small what was found included: {found}.")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    if count:
        sql(count)
        node(count)
        speeds(count)
    campaign(int(sys.argv[2]) if len(sys.argv) > 2 else 1_000)
