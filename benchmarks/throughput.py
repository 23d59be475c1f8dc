"""What the reference store costs beside its bare statements: claim + complete per second, one worker, as ratios.

The bare statements are sent by pgbench (prepared, one client), on the same server and the same tables, in the same
run; the store sends them through psycopg and makes values of the rows. Durable settings are those of a server for
tests (no fsync), so the differences are the client's, not the disk's.

Usage: .venv/bin/python benchmarks/throughput.py [SECONDS]     (2 per row, about 15 s in all)
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable

from job_harness.worlds.postgres import Cluster, provision
from job_harness.worlds.postgres.provider import find_embedded, find_system
from job_harness_reference.store.batch import Settlement
from job_harness_reference.store.database import SESSION_SETTINGS, ConnectionDatabase, connect
from job_harness_reference.store.migrations import migrate
from job_harness_reference.store.postgres import PostgresStore
from job_harness_reference.store.statements import shipped

TOOL = "throughput"
ROUNDS = 2
STOCK = {1: 12_000, 50: 50_000}
"""Jobs put in store for each second of a measurement, by batch: more than any client takes in its time."""
SETTINGS = tuple(part.strip().removeprefix("SET ").replace(" ", "") for part in SESSION_SETTINGS.split(";"))


_STOCK = b"""
WITH queued AS (
  INSERT INTO pgboss.job ("id", "name", "data", "created_on")
  SELECT lpad(to_hex(n), 32, '0')::uuid, %(tool)s, jsonb_build_object('toolJobId', n::text), now()
  FROM generate_series(1, %(count)s) AS n
  RETURNING "id", "name", "data"
)
INSERT INTO public.tool_job ("id", "toolSlug", "input", "pgBossJobId")
SELECT "data"->>'toolJobId', "name", '{"n": 1}', "id"::text FROM queued
"""


def find_pgbench() -> str | None:
    """Look beside the servers that the harness itself would start, then on the path."""
    for find in (find_embedded, find_system):
        installation, _ = find()
        if installation is not None and (binary := installation.bin_directory / "pgbench").is_file():
            return str(binary)
    return shutil.which("pgbench")


def script(batch: int) -> str:
    """Write one transaction of pgbench: the store's own statements, the claim's rows fed into the completion."""
    claim = _filled("claim", now="NULL", tools=f"ARRAY['{TOOL}']", worker="'w'", limit=str(batch))
    if batch == 1:
        settle = _filled("complete", now="NULL", output="'{}'", tool=f"'{TOOL}'", queue_id=":queue_id", token=":token")
        return f"{claim}\n\\gset\n{settle};\n"
    gathered = re.sub(
        r"SELECT \* FROM shown.*\Z",
        "SELECT array_agg(queue_id)::text AS ids, array_agg(token)::text AS tokens, "
        "array_agg(tool_slug)::text AS tools, array_agg('{}'::text)::text AS outputs FROM shown",
        claim,
        flags=re.DOTALL,
    )
    settle = _filled(
        "complete_many", now="NULL", tools=":tools", queue_ids=":ids", tokens=":tokens", outputs=":outputs"
    )
    return f"{gathered}\n\\gset\n{settle};\n"


def _filled(name: str, **values: str) -> str:
    sql = re.sub(r"--[^\n]*", "", shipped(name)).strip()
    return re.sub(r"(?<!:):([a-z_]+)", lambda match: values[match[1]], sql)


async def stocked(url: str, count: int) -> None:
    """Empty the queue and put jobs in store."""
    connection = await connect(url)
    try:
        for table in ("pgboss.job", "public.tool_job"):
            await connection.execute(f"TRUNCATE {table}".encode())
        await PostgresStore(ConnectionDatabase(connection)).register_tool(TOOL)
        await connection.execute(_STOCK, {"tool": TOOL, "count": count})
        await connection.execute(b"VACUUM ANALYZE pgboss.job, public.tool_job", prepare=False)
    finally:
        await connection.close()


async def by_the_store(url: str, batch: int, seconds: float) -> float:
    """Drain through the reference store; answers jobs per second."""
    connection = await connect(url)
    try:
        store = PostgresStore(ConnectionDatabase(connection))
        return await _drained(lambda: one_turn(store, batch), seconds)
    finally:
        await connection.close()


async def one_turn(store: PostgresStore, batch: int) -> int:
    claims = await store.claim(worker="w", tools=[TOOL], limit=batch)
    if batch == 1:
        settled = [await store.complete(claim, {}) for claim in claims]
    else:
        settled = [answer is True for answer in await store.complete_many([Settlement(claim, {}) for claim in claims])]
    assert all(settled), "a claim was lost though no other worker is there"
    return len(settled)


async def _drained(turn: Callable[[], Awaitable[int]], seconds: float) -> float:
    done = 0
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        jobs = await turn()
        if not jobs:
            sys.exit("the stock ran out before the time did: raise STOCK")
        done += jobs
    return done / spent


def by_pgbench(binary: str, url: str, batch: int, seconds: float) -> float:
    """Drain with pgbench; answers jobs per second."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script(batch))
        file.flush()
        options = " ".join(f"-c {setting}" for setting in SETTINGS)
        command = [binary, "-n", "-M", "prepared", "-c", "1", "-T", str(max(1, round(seconds))), "-f", file.name, url]
        environment = {**os.environ, "PGOPTIONS": options}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"tps = ([\d.]+)", ended.stdout)
    if ended.returncode or found is None:
        sys.exit(f"pgbench failed with {ended.returncode}: {ended.stderr.strip()[-600:]}")
    return float(found[1]) * batch


def measure(cluster: Cluster, seconds: float) -> None:
    """Take turns, print a table."""
    url = cluster.create_database()
    asyncio.run(migrate(url))
    binary = find_pgbench()
    if binary is None:
        sys.exit("no pgbench: install job-harness[embedded] or PostgreSQL")
    print(f"claim + complete, one worker, {ROUNDS} rounds of {seconds:g} s")
    print(f"{'batch':>5}  {'pgbench jobs/s':>14}  {'store jobs/s':>12}  store/pgbench")
    for batch, count in STOCK.items():
        bare, store = [], []
        for _ in range(ROUNDS):
            asyncio.run(stocked(url, round(count * seconds)))
            bare.append(by_pgbench(binary, url, batch, seconds))
            asyncio.run(stocked(url, round(count * seconds)))
            store.append(asyncio.run(by_the_store(url, batch, seconds)))
        ratio = statistics.median(mine / base for mine, base in zip(store, bare, strict=True))
        print(f"{batch:>5}  {statistics.median(bare):>14,.0f}  {statistics.median(store):>12,.0f}  {ratio:>13.2f}")


if __name__ == "__main__":
    with provision() as server:
        measure(server, float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
