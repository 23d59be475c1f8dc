"""Right processors on libraries that hold connections, sessions and locks, each held by a module."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from job_harness import JobResult, ToolJob

from .conftest import Outside

Play = Callable[..., None]
DONE = JobResult(success=True)
TABLE = "CREATE TABLE IF NOT EXISTS paid (id text PRIMARY KEY)"
KEPT: dict[tuple[str, str], Any] = {}
"""What a module keeps from one test to the next."""
PAY = "INSERT INTO paid VALUES ({}) ON CONFLICT DO NOTHING"


@pytest.fixture
def url(job_postgres: Any) -> str:
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(job_postgres.url) as connection:
        connection.execute(TABLE)
    found: str = job_postgres.url
    return found


@pytest.mark.parametrize("jobs", [1, 2])
def test_asyncpg(play: Play, outside: Outside, url: str, jobs: int) -> None:
    asyncpg = pytest.importorskip("asyncpg")
    opening = asyncio.Lock()

    async def work(job: ToolJob) -> JobResult:
        async with opening:
            if ("asyncpg", url) not in KEPT:
                KEPT["asyncpg", url] = await asyncpg.create_pool(url, min_size=1, max_size=4)
        outside.charge(job.id)
        async with KEPT["asyncpg", url].acquire() as connection, connection.transaction():
            await connection.execute(PAY.format("$1"), job.id)
        return DONE

    play(work, *range(jobs))


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
def test_sqlalchemy(play: Play, outside: Outside, url: str, driver: str, jobs: int) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    asynchronous = pytest.importorskip("sqlalchemy.ext.asyncio")
    pytest.importorskip(driver.removesuffix("_async"))
    address = sqlalchemy.make_url(url).set(drivername=f"postgresql+{driver}")
    engine = KEPT.setdefault((f"sqlalchemy+{driver}", url), asynchronous.create_async_engine(address))

    async def work(job: ToolJob) -> JobResult:
        outside.charge(job.id)
        async with asynchronous.AsyncSession(engine) as session, session.begin():
            await session.execute(sqlalchemy.text(PAY.format(":id")), {"id": job.id})
        return DONE

    play(work, *range(jobs))


def test_sqlalchemy_plainly(play: Play, outside: Outside, url: str) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(url).set(drivername="postgresql+psycopg"))

    def work(job: ToolJob) -> JobResult:
        outside.charge(job.id)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(PAY.format(":id")), {"id": job.id})
        return DONE

    play(work)


@pytest.mark.parametrize("jobs", [1, 2])
def test_psycopg(play: Play, outside: Outside, url: str, jobs: int) -> None:
    psycopg = pytest.importorskip("psycopg")

    async def work(job: ToolJob) -> JobResult:
        outside.charge(job.id)
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute(PAY.format("%s"), [job.id])
        return DONE

    play(work, *range(jobs))


def test_psycopg_pool(play: Play, outside: Outside, url: str) -> None:
    psycopg_pool = pytest.importorskip("psycopg_pool")

    async def work(job: ToolJob) -> JobResult:
        outside.charge(job.id)
        async with psycopg_pool.AsyncConnectionPool(url, min_size=1) as pool, pool.connection() as connection:
            await connection.execute(PAY.format("%s"), [job.id])
        return DONE

    play(work)


def test_psycopg_pool_that_is_kept(play: Play, outside: Outside, url: str) -> None:
    psycopg_pool = pytest.importorskip("psycopg_pool")
    pools: list[Any] = []

    async def work(job: ToolJob) -> JobResult:
        if not pools:
            pools.append(psycopg_pool.AsyncConnectionPool(url, min_size=1, open=False))
            await pools[0].open()
        outside.charge(job.id)
        async with pools[0].connection() as connection:
            await connection.execute(PAY.format("%s"), [job.id])
        return DONE

    play(work)


def test_psycopg_plainly(play: Play, outside: Outside, url: str) -> None:
    psycopg = pytest.importorskip("psycopg")

    def work(job: ToolJob) -> JobResult:
        outside.charge(job.id)
        with psycopg.connect(url) as connection:
            connection.execute(PAY.format("%s"), [job.id])
        return DONE

    play(work)


def test_aiohttp(play: Play, outside: Outside, address: str) -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def work(job: ToolJob) -> JobResult:
        one = aiohttp.TCPConnector(limit=1)
        url = f"{address}/{job.id}"
        async with aiohttp.ClientSession(connector=one) as session, session.put(url) as response:
            await response.read()
        outside.charge(job.id)
        return DONE

    play(work)


def test_httpx(play: Play, outside: Outside, address: str) -> None:
    httpx = pytest.importorskip("httpx")

    async def work(job: ToolJob) -> JobResult:
        async with httpx.AsyncClient() as client:
            await client.put(f"{address}/{job.id}")
        outside.charge(job.id)
        return DONE

    play(work)


def test_httpx_plainly(play: Play, outside: Outside, address: str) -> None:
    httpx = pytest.importorskip("httpx")

    def work(job: ToolJob) -> JobResult:
        httpx.put(f"{address}/{job.id}")
        outside.charge(job.id)
        return DONE

    play(work)


def test_requests(play: Play, outside: Outside, address: str) -> None:
    requests = pytest.importorskip("requests")

    def work(job: ToolJob) -> JobResult:
        requests.put(f"{address}/{job.id}", timeout=5)
        outside.charge(job.id)
        return DONE

    play(work)


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


@pytest.mark.job_explore(isolation="rerun")
def test_redis(play: Play, outside: Outside, redis_port: int) -> None:
    redis = pytest.importorskip("redis.asyncio")

    async def work(job: ToolJob) -> JobResult:
        async with redis.Redis(port=redis_port) as client:
            await client.set(job.id, "paid")
        outside.charge(job.id)
        return DONE

    play(work)


def test_fakeredis(play: Play, outside: Outside) -> None:
    fakeredis = pytest.importorskip("fakeredis")
    client = fakeredis.FakeAsyncRedis()

    async def work(job: ToolJob) -> JobResult:
        await client.set(job.id, "paid")
        outside.charge(job.id)
        await asyncio.sleep(1)
        return DONE

    play(work)


@pytest.mark.parametrize("plainly", [False, True])
def test_tenacity(play: Play, outside: Outside, plainly: bool) -> None:
    tenacity = pytest.importorskip("tenacity")
    again = tenacity.retry(wait=tenacity.wait_random_exponential(max=60), stop=tenacity.stop_after_attempt(4))
    tries: dict[str, int] = {}

    def fail_twice(job: str) -> None:
        tries[job] = tries.get(job, 0) + 1
        if tries[job] < 3:
            raise ConnectionError

    async def call(job: str) -> None:
        await asyncio.sleep(0.1)
        fail_twice(job)

    async def work(job: ToolJob) -> JobResult:
        await again(call)(job.id)
        outside.charge(job.id)
        return DONE

    def work_plainly(job: ToolJob) -> JobResult:
        again(fail_twice)(job.id)
        outside.charge(job.id)
        time.sleep(1)
        return DONE

    play(work_plainly if plainly else work)


def test_backoff(play: Play, outside: Outside) -> None:
    backoff = pytest.importorskip("backoff")
    tries: dict[str, int] = {}

    @backoff.on_exception(backoff.expo, ConnectionError, max_tries=4)
    async def call(job: str) -> None:
        tries[job] = tries.get(job, 0) + 1
        if tries[job] < 3:
            raise ConnectionError

    async def work(job: ToolJob) -> JobResult:
        await call(job.id)
        outside.charge(job.id)
        return DONE

    play(work)


def test_numpy(play: Play, outside: Outside) -> None:
    numpy = pytest.importorskip("numpy")

    async def work(job: ToolJob) -> JobResult:
        await asyncio.sleep(float(numpy.random.random()))
        outside.charge(job.id)
        return DONE

    play(work)


def test_anyio(play: Play, outside: Outside) -> None:
    anyio = pytest.importorskip("anyio")

    async def work(job: ToolJob) -> JobResult:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 1)
        outside.charge(job.id)
        return DONE

    play(work)
