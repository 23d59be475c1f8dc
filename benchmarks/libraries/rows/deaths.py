"""A worker dies with something that a library lends: the next attempt gets on at once, as a new process would.

Each library is held by a module, as production code holds it, and the worker dies in four ways: as it first waits for
the library, while it holds what that lends, after it has given it back, and by another job's hand while it holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from benchmarks.libraries.rows.at_work import done, http_server

from job_harness import JobHarness, ToolJob, effect

# A pool of a module is closed by the end of its process; here the garbage collector finds it.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{name}")
    for name in ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
]
WAYS = ["first wait", "held", "returned", "killed by another"]
SOON = 900
"""Seconds of virtual time: a worker's death is noticed after 13 minutes, and a job that hangs takes 10 more."""
each_way = pytest.mark.parametrize("way", WAYS)
on_postgres = pytest.mark.postgres
CREATE = "CREATE TABLE IF NOT EXISTS t (n int PRIMARY KEY)"
INSERT = "INSERT INTO t VALUES ({}) ON CONFLICT DO NOTHING"


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Let the garbage collector complain of what stays open here, and not in a later test."""
    yield
    gc.collect()


@pytest.fixture
def address() -> Iterator[str]:
    with http_server() as address:
        yield address


def goes_on(harness: JobHarness, processor: Any, way: str) -> None:
    """Let a worker die in this way, and see the next attempt, and three more jobs, end well."""
    slug = processor.__name__
    harness.register(slug, processor)
    if way == "killed by another":

        async def kill(job: ToolJob):
            await asyncio.sleep(30)
            effect("killed")
            return done()

        harness.register("kill", kill)
        harness.enqueue("kill")
    harness.crash_worker(at={"first wait": "while running", "killed by another": "killed"}.get(way, way))
    began, job = harness.now, harness.enqueue(slug, {"n": 1, "stays": way == "killed by another"})
    harness.run_until_idle()
    assert (job.status, job.attempts, job.error) == ("COMPLETED", 2, None), harness.notes()
    assert (harness.now - began).total_seconds() < SOON
    others = [harness.enqueue(slug, {"n": n}) for n in range(3)]
    harness.run_until_idle()
    assert [(each.status, each.attempts) for each in others] == [("COMPLETED", 1)] * 3
    assert not [note for note in harness.notes() if note.startswith(("inconclusive", "real time"))]


async def hold(job: ToolJob) -> None:
    """Hold what was lent, for a minute where the worker is to be killed meanwhile."""
    effect("held")
    await asyncio.sleep(60 if job.input.get("stays") and job.attempts == 1 else 0)


async def go_on() -> Any:
    """Give it back, and work on."""
    effect("returned")
    await asyncio.sleep(60)
    return done()


def hold_plainly(job: ToolJob) -> None:
    """Hold it, in a plain function."""
    effect("held")
    if job.input.get("stays") and job.attempts == 1:
        time.sleep(60)


def go_on_plainly() -> Any:
    """Give it back, and work on, in a plain function."""
    effect("returned")
    time.sleep(60)
    return done()


# databases ------------------------------------------------------------------------------------------------------------


@each_way
@on_postgres
@pytest.mark.parametrize("size", [1, 10])
def test_asyncpg(job_harness: JobHarness, job_postgres: Any, way: str, size: int) -> None:
    asyncpg = pytest.importorskip("asyncpg")
    pools: list[Any] = []

    async def work(job: ToolJob):
        if not pools:
            pools.append(await asyncpg.create_pool(job_postgres.url, min_size=1, max_size=size))
        async with pools[0].acquire() as connection, connection.transaction():
            await connection.execute(CREATE)
            await connection.execute(INSERT.format("$1"), job.input["n"])
            await hold(job)
        return await go_on()

    goes_on(job_harness, work, way)


@each_way
@on_postgres
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
@pytest.mark.parametrize("size", [1, 10])
def test_sqlalchemy(job_harness: JobHarness, job_postgres: Any, way: str, driver: str, size: int) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    asynchronous = pytest.importorskip("sqlalchemy.ext.asyncio")
    pytest.importorskip(driver.removesuffix("_async"))
    url = sqlalchemy.make_url(job_postgres.url).set(drivername=f"postgresql+{driver}")
    engine = asynchronous.create_async_engine(url, pool_size=size, max_overflow=0)

    async def work(job: ToolJob):
        async with asynchronous.AsyncSession(engine) as session:
            await session.execute(sqlalchemy.text(CREATE))
            await session.execute(sqlalchemy.text(INSERT.format(":n")), {"n": job.input["n"]})
            await hold(job)
            await session.commit()
        return await go_on()

    goes_on(job_harness, work, way)


@each_way
@on_postgres
def test_sqlalchemy_plainly(job_harness: JobHarness, job_postgres: Any, way: str) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    url = sqlalchemy.make_url(job_postgres.url).set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(url, pool_size=1, max_overflow=0)

    def work(job: ToolJob):
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(CREATE))
            connection.execute(sqlalchemy.text(INSERT.format(":n")), {"n": job.input["n"]})
            hold_plainly(job)
        return go_on_plainly()

    goes_on(job_harness, work, way)


@each_way
@on_postgres
def test_psycopg(job_harness: JobHarness, job_postgres: Any, way: str) -> None:
    psycopg_pool = pytest.importorskip("psycopg_pool")
    pools: list[Any] = []

    async def work(job: ToolJob):
        if not pools:
            pools.append(psycopg_pool.AsyncConnectionPool(job_postgres.url, min_size=1, open=False, timeout=5))
            await pools[0].open()
        async with pools[0].connection() as connection:
            await connection.execute(CREATE)
            await connection.execute(INSERT.format("%s"), [job.input["n"]])
            await hold(job)
        return await go_on()

    goes_on(job_harness, work, way)


@each_way
@on_postgres
def test_psycopg_on_threads(job_harness: JobHarness, job_postgres: Any, way: str) -> None:
    psycopg_pool = pytest.importorskip("psycopg_pool")
    with psycopg_pool.ConnectionPool(job_postgres.url, min_size=1, open=True, timeout=5) as pool:
        pool.wait()

        def work(job: ToolJob):
            with pool.connection() as connection:
                connection.execute(CREATE)
                connection.execute(INSERT.format("%s"), [job.input["n"]])
                hold_plainly(job)
            return go_on_plainly()

        goes_on(job_harness, work, way)


# services -------------------------------------------------------------------------------------------------------------


@each_way
@pytest.mark.parametrize("limit", [1, 100])
def test_aiohttp(job_harness: JobHarness, address: str, way: str, limit: int) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    sessions: list[Any] = []

    async def work(job: ToolJob):
        if not sessions:
            sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=limit)))
        async with sessions[0].get(f"{address}/slow") as response:
            await hold(job)
            await response.json()
        return await go_on()

    goes_on(job_harness, work, way)
    job_harness.perform_job(_closing(lambda: sessions[0].close()), None)


@each_way
@pytest.mark.parametrize("limit", [1, 100])
def test_httpx(job_harness: JobHarness, address: str, way: str, limit: int) -> None:
    httpx = pytest.importorskip("httpx")
    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=limit))

    async def work(job: ToolJob):
        async with client.stream("GET", f"{address}/slow") as response:
            await hold(job)
            await response.aread()
        return await go_on()

    goes_on(job_harness, work, way)


@each_way
def test_requests(job_harness: JobHarness, address: str, way: str) -> None:
    requests = pytest.importorskip("requests")
    session = requests.Session()

    def work(job: ToolJob):
        with session.get(f"{address}/slow", stream=True) as response:
            hold_plainly(job)
            response.json()
        return go_on_plainly()

    goes_on(job_harness, work, way)


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


@each_way
@pytest.mark.parametrize("kind", ["ConnectionPool", "BlockingConnectionPool"])
def test_redis(job_harness: JobHarness, redis_port: int, way: str, kind: str) -> None:
    redis = pytest.importorskip("redis.asyncio")
    most = 1 if kind.startswith("B") else 5
    client = redis.Redis(connection_pool=getattr(redis, kind)(port=redis_port, max_connections=most))

    async def work(job: ToolJob):
        async with client.pipeline() as pipeline:
            await pipeline.watch(key := f"key {job.input['n']}")
            await hold(job)
            pipeline.multi()
            pipeline.incr(key)
            await pipeline.execute()
        return await go_on()

    goes_on(job_harness, work, way)


@each_way
@pytest.mark.parametrize("kind", ["ConnectionPool", "BlockingConnectionPool"])
def test_redis_plainly(job_harness: JobHarness, redis_port: int, way: str, kind: str) -> None:
    redis = pytest.importorskip("redis")
    most = 1 if kind.startswith("B") else 5
    client = redis.Redis(connection_pool=getattr(redis, kind)(port=redis_port, max_connections=most))

    def work(job: ToolJob):
        with client.pipeline() as pipeline:
            pipeline.watch(key := f"key {job.input['n']}")
            hold_plainly(job)
            pipeline.multi()
            pipeline.incr(key)
            pipeline.execute()
        return go_on_plainly()

    goes_on(job_harness, work, way)


CLOUD = {"region_name": "here", "aws_access_key_id": "a", "aws_secret_access_key": "b"}


@each_way
def test_aiobotocore(job_harness: JobHarness, address: str, way: str) -> None:
    session = pytest.importorskip("aiobotocore.session")
    config = pytest.importorskip("aiobotocore.config")
    opened = contextlib.AsyncExitStack()
    clients: list[Any] = []

    async def work(job: ToolJob):
        if not clients:
            one = config.AioConfig(max_pool_connections=1)
            made = session.get_session().create_client("s3", endpoint_url=address, config=one, **CLOUD)
            clients.append(await opened.enter_async_context(made))
        await clients[0].head_bucket(Bucket="bucket")
        await hold(job)
        return await go_on()

    goes_on(job_harness, work, way)
    job_harness.perform_job(_closing(opened.aclose), None)


@each_way
def test_boto3(job_harness: JobHarness, address: str, way: str) -> None:
    boto3 = pytest.importorskip("boto3")
    client = boto3.client("s3", endpoint_url=address, **CLOUD)

    def work(job: ToolJob):
        client.head_bucket(Bucket="bucket")
        hold_plainly(job)
        return go_on_plainly()

    goes_on(job_harness, work, way)


def _closing(close: Callable[[], Any]) -> Any:
    async def closing(job: ToolJob):
        await close()
        return done()

    return closing
