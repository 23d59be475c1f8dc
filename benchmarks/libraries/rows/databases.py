"""Databases: a statement that takes real time holds virtual time, and a pool that idles does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.libraries.rows.at_work import done, output_of

from job_harness import JobHarness, ToolJob

pytestmark = pytest.mark.postgres
SLOW = "SELECT pg_sleep(0.15)"


def test_asyncpg(job_harness: JobHarness, job_postgres: Any) -> None:
    asyncpg = pytest.importorskip("asyncpg")

    async def work(job: ToolJob):
        began = time.monotonic()
        async with asyncpg.create_pool(job_postgres.url, min_size=2, max_size=3, command_timeout=5) as pool:
            async with asyncio.timeout(1):
                assert await pool.fetchval("SELECT 1") == 1
                await pool.execute(SLOW)
            await asyncio.sleep(200)
            async with pool.acquire() as connection, connection.transaction():
                assert await connection.fetchval("SELECT count(*) FROM generate_series(1, 20000)") == 20000
                await asyncio.sleep(50)
        return done(time.monotonic() - began)

    assert output_of(job_harness, work) == 250


def test_asyncpg_listens(job_harness: JobHarness, job_postgres: Any) -> None:
    asyncpg = pytest.importorskip("asyncpg")

    async def work(job: ToolJob):
        connection = await asyncpg.connect(job_postgres.url)
        heard: asyncio.Queue[str] = asyncio.Queue()
        await connection.add_listener("news", lambda *told: heard.put_nowait(told[-1]))
        await asyncio.sleep(300)
        await connection.execute("NOTIFY news, 'x'")
        answer = await asyncio.wait_for(heard.get(), 5)
        await connection.close()
        return done(answer)

    assert output_of(job_harness, work) == "x"


def test_psycopg(job_harness: JobHarness, job_postgres: Any) -> None:
    psycopg_pool = pytest.importorskip("psycopg_pool")

    async def work(job: ToolJob):
        began = time.monotonic()
        async with psycopg_pool.AsyncConnectionPool(job_postgres.url, min_size=2, open=False, timeout=5) as pool:
            async with asyncio.timeout(1), pool.connection() as connection:
                await connection.execute(SLOW)
            await asyncio.sleep(300)
            async with pool.connection() as connection:
                await connection.execute("SELECT 1")
        return done(time.monotonic() - began)

    assert output_of(job_harness, work) == 300


def test_psycopg_on_threads(job_harness: JobHarness, job_postgres: Any) -> None:
    psycopg_pool = pytest.importorskip("psycopg_pool")

    def work(job: ToolJob):
        began = time.monotonic()
        with psycopg_pool.ConnectionPool(job_postgres.url, min_size=2, open=False, timeout=5) as pool:
            pool.wait()
            with pool.connection() as connection:
                connection.execute(SLOW)
            time.sleep(300)
            with pool.connection() as connection:
                connection.execute("SELECT 1")
        return done(time.monotonic() - began)

    assert output_of(job_harness, work) == 300


def test_sqlalchemy(job_harness: JobHarness, job_postgres: Any) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    asynchronous = pytest.importorskip("sqlalchemy.ext.asyncio")
    pytest.importorskip("asyncpg")
    url = sqlalchemy.make_url(job_postgres.url).set(drivername="postgresql+asyncpg")

    async def work(job: ToolJob):
        began = time.monotonic()
        engine = asynchronous.create_async_engine(url, pool_pre_ping=True)
        async with asynchronous.AsyncSession(engine) as session:
            async with asyncio.timeout(1):
                assert (await session.execute(sqlalchemy.text("SELECT 1"))).scalar() == 1
                await session.execute(sqlalchemy.text(SLOW))
            await session.commit()
            await asyncio.sleep(300)
            assert (await session.execute(sqlalchemy.text("SELECT 1"))).scalar() == 1
        await engine.dispose()
        return done(time.monotonic() - began)

    assert output_of(job_harness, work, warm=True) == 300


def test_aiosqlite(job_harness: JobHarness, tmp_path: Path) -> None:
    aiosqlite = pytest.importorskip("aiosqlite")

    async def work(job: ToolJob):
        began = time.monotonic()
        async with aiosqlite.connect(tmp_path / "jobs.db") as database:
            await database.execute("CREATE TABLE IF NOT EXISTS t (x)")
            await database.execute("INSERT INTO t VALUES (1)")
            await database.commit()
            await asyncio.sleep(300)
            counting = (
                "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 300000) SELECT max(x) FROM c"
            )
            async with asyncio.timeout(1), database.execute(counting) as cursor:
                assert (await cursor.fetchone()) == (300000,)
        return done(time.monotonic() - began)

    assert output_of(job_harness, work) == 300


def test_sqlalchemy_on_aiosqlite(job_harness: JobHarness, tmp_path: Path) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    asynchronous = pytest.importorskip("sqlalchemy.ext.asyncio")
    pytest.importorskip("aiosqlite")
    engine = asynchronous.create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/jobs.db")  # of the module, as it is used

    async def work(job: ToolJob):
        began = time.monotonic()
        async with engine.begin() as connection:
            await connection.execute(sqlalchemy.text("CREATE TABLE IF NOT EXISTS t (x)"))
            await connection.execute(sqlalchemy.text("INSERT INTO t VALUES (1)"))
        await asyncio.sleep(300)
        async with engine.connect() as connection:
            assert (await connection.execute(sqlalchemy.text("SELECT x FROM t"))).first() == (1,)
        await engine.dispose()
        return done(time.monotonic() - began)

    assert output_of(job_harness, work, warm=False) == 300


@pytest.fixture
def redis_port() -> Iterator[int]:
    fakeredis = pytest.importorskip("fakeredis")
    import threading

    server = fakeredis.TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def test_redis(job_harness: JobHarness, redis_port: int) -> None:
    asynchronous = pytest.importorskip("redis.asyncio")

    async def work(job: ToolJob):
        began = time.monotonic()
        async with asynchronous.Redis(port=redis_port, socket_timeout=5, health_check_interval=30) as client:
            await client.set("a", 1)
            await asyncio.sleep(300)
            assert await client.get("a") == b"1"
        return done(time.monotonic() - began)

    assert output_of(job_harness, work, warm=True) == 300


def test_fakeredis_forgets(job_harness: JobHarness) -> None:
    fakeredis = pytest.importorskip("fakeredis")
    client = fakeredis.FakeAsyncRedis()

    async def work(job: ToolJob):
        await client.set("lock", "held", ex=60)
        await asyncio.sleep(59)
        before = await client.get("lock")
        await asyncio.sleep(2)
        return done([before.decode(), await client.get("lock")])

    assert output_of(job_harness, work) == ["held", None]
