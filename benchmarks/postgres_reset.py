"""What a clean database costs per test: our reset against pytest-postgresql's database per test.

Two suites of each kind run as a whole, with one test and with many; the difference is the price of a test. The
price of a test without a database is taken off. Usage: .venv/bin/python benchmarks/postgres_reset.py [ROUNDS]
"""

from __future__ import annotations

import sys
import time

import psycopg
from paired import Aim, show
from postgres_suite import SCHEMA, suites

LIMIT_SECONDS = 150
MANY = {"pytest-postgresql": 21, "pytest-postgresql, tmpfs": 21}
MANY_OTHERWISE = 401


def per_test(rounds: int) -> None:
    began = time.perf_counter()
    with suites() as (made, names, skipped):
        names = [name for name in names if name != "testcontainers"]
        counts = {name: MANY.get(name, MANY_OTHERWISE) for name in names}
        few = {name: made.prepare(name, count=1) for name in names}
        many = {name: made.prepare(name, count=counts[name]) for name in names}
        for name in names:
            made.seconds(name, few[name])
        rows: dict[str, list[float]] = {name: [] for name in names if name != "no database"}
        for _ in range(rounds):
            if time.perf_counter() - began > LIMIT_SECONDS:
                print(f"stopped after {LIMIT_SECONDS} s")
                break
            prices = {}
            for name in names:
                difference = made.seconds(name, many[name]) - made.seconds(name, few[name])
                prices[name] = difference / (counts[name] - 1)
            for name in rows:
                rows[name].append(max(prices[name] - prices["no database"], 1e-6))
    base = next(iter(rows))
    aim = Aim("pytest-postgresql", 20, "A database per test costs less than 20 resets here.", at_least=True)
    title = "What does a test with a clean database cost?"
    show(title, rows, base=base, unit="ms", scale=1000, aims=[aim])
    for reason in skipped:
        print(f"\nSkipped {reason}")


def by_itself() -> None:
    """Time the two ways of resetting in this process, without pytest."""
    from job_harness.worlds.postgres import Resetter, provision

    with provision() as cluster:
        with psycopg.connect(cluster.create_database("template"), autocommit=True) as connection:
            connection.execute(SCHEMA.encode())
        cluster.create_database("mine", template="template")
        rows: dict[str, list[float]] = {"reset": [], "clone after DDL": []}
        with Resetter(cluster, "mine") as resetter:
            for number in range(330):
                with psycopg.connect(cluster.url("mine"), autocommit=True) as connection:
                    connection.execute("INSERT INTO t3 DEFAULT VALUES")
                    if number % 11 == 0:
                        connection.execute("CREATE TABLE more (n int)")
                began = time.perf_counter()
                how = resetter.reset().how
                rows["reset" if how == "deleted" else "clone after DDL"].append(time.perf_counter() - began)
        title = "What does a reset of 10 tables cost by itself?"
        show(title, rows, base="reset", unit="ms", scale=1000, note="`clone after DDL`: the test changed the schema.")


if __name__ == "__main__":
    by_itself()
    per_test(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
