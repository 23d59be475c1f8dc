"""What a session for every actor costs: a run of the generic workload, and one order of two transactions.

Usage: .venv/bin/python benchmarks/gating.py [ROUNDS]
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import psycopg
from paired import interleave, seconds_of, show

from job_harness.core.port import Engine
from job_harness.search.orders import Script, all_orders
from job_harness.search.sampling import Sampler, Strategy, run_seed
from job_harness.search.targets import open_engine
from job_harness.worlds.postgres import provision
from job_harness.worlds.postgres.gating import GatedConnection, SessionPool

SECONDS = 60
RUNS = 40
FIRST = "UPDATE a SET n = 0; UPDATE b SET n = 0"


def writing(*rows: tuple[str, int]) -> Script:
    """Two statements and a commit."""

    async def script(connection: GatedConnection) -> None:
        async with connection.transaction():
            for table, row in rows:
                await connection.execute(f"UPDATE {table} SET n = n + 1 WHERE id = {row}".encode())

    return script


def orders(rounds: int) -> None:
    """Two transactions on rows of their own, on the same rows, and on the same rows in opposite order."""
    with (
        provision() as cluster,
        SessionPool(cluster.create_database()) as pool,
        psycopg.connect(pool.url, autocommit=True) as tables,
    ):
        for name in "ab":
            tables.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, n int)".encode())
            tables.execute(f"INSERT INTO {name} VALUES (1, 0), (2, 0)".encode())

        def price(one: Script, other: Script) -> Callable[[], float]:
            def measure() -> float:
                found: list[object] = []
                actors = {"one": one, "other": other}
                whole = seconds_of(
                    lambda: found.extend(all_orders(pool, actors, prepare=lambda: tables.execute(FIRST)))
                )
                return whole / len(found)

            return measure

        first = writing(("a", 1), ("b", 1))
        rows = interleave(
            {
                "rows of their own": price(first, writing(("a", 2), ("b", 2))),
                "the same rows": price(first, writing(("a", 1), ("b", 1))),
                "opposite order": price(first, writing(("b", 1), ("a", 1))),
            },
            rounds=rounds,
            seconds=SECONDS,
        )
    note = "Two statements and a commit each; putting the tables in their first state is counted."
    show(
        "What does one order of two transactions cost?",
        rows,
        base="rows of their own",
        unit="ms",
        scale=1000,
        note=note,
    )


def runs(rounds: int) -> None:
    """The same seeds on the model queue, on one session, and on a session for every actor."""

    def speed(engine: Engine) -> Callable[[], float]:
        sampler = Sampler(engine, strategy=Strategy.UNIFORM)

        def measure() -> float:
            def sample() -> None:
                for number in range(RUNS):
                    sampler.sample(run_seed(0, number))

            return RUNS / seconds_of(sample)

        return measure

    engines = {name: open_engine(name) for name in ("reference", "postgres", "postgres --sessions")}
    try:
        measures = {name: speed(engine) for name, engine in engines.items()}
        rows = interleave(measures, rounds=rounds, seconds=SECONDS)
    finally:
        for engine in engines.values():
            engine.close()
    note = "Drawn from the generic workload; where statements are gated a run has more gates, and so more steps."
    show("How many runs a second?", rows, base="postgres", unit="runs/s", note=note)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    runs(count)
    orders(count)
