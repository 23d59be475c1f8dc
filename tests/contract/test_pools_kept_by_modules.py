"""A pool that a module keeps serves every test of a session, each of which has a loop of its own."""

from __future__ import annotations

import os

import pytest

from job_harness.worlds.packages import python_package

pytestmark = [pytest.mark.postgres, pytest.mark.long]
INI = "[pytest]\naddopts = -p no:cacheprovider -p no:postgresql -p no:anyio\nfilterwarnings = error\n"
SUITE = """
import asyncio, asyncpg, psycopg, psycopg_pool, pytest
from job_harness import JobResult
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

PAY = "INSERT INTO paid VALUES ({}) ON CONFLICT DO NOTHING"
kept, opening = {}, asyncio.Lock()

@pytest.fixture(scope="session")
def job_postgres_schema():
    def migrate(url):
        with psycopg.connect(url) as database:
            database.execute("CREATE TABLE paid (id text PRIMARY KEY)")
    return migrate

async def sqlalchemy(job):
    if "engine" not in kept:
        url = make_url(kept["url"]).set(drivername="postgresql+asyncpg")
        kept["engine"] = create_async_engine(url, pool_size=1, max_overflow=0)
    async with kept["engine"].begin() as database:
        await database.execute(text(PAY.format(":id")), {"id": job.id})
    return JobResult(success=True)

async def over_asyncpg(job):
    async with opening:
        if "asyncpg" not in kept:
            kept["asyncpg"] = await asyncpg.create_pool(kept["url"], min_size=1, max_size=1)
    async with kept["asyncpg"].acquire() as database:
        await database.execute(PAY.format("$1"), job.id)
    return JobResult(success=True)

async def over_psycopg(job):
    async with opening:
        if "psycopg" not in kept:
            kept["psycopg"] = psycopg_pool.AsyncConnectionPool(kept["url"], min_size=1, max_size=2, open=False)
            await kept["psycopg"].open()
    async with kept["psycopg"].connection() as database:
        await database.execute(PAY.format("%s"), [job.id])
        await asyncio.sleep(1)
    return JobResult(success=True)

async def one_connection(job):
    if "one" not in kept:
        kept["one"] = await asyncpg.connect(kept["url"])
    await kept["one"].execute(PAY.format("$1"), job.id)
    return JobResult(success=True)

def run(job_harness, job_postgres, work, jobs=2):
    kept["url"] = job_postgres.url
    job_harness.register("work", work)
    jobs = [job_harness.enqueue("work") for _ in range(jobs)]
    job_harness.run_until_idle()
    assert [(job.status, job.attempts) for job in jobs] == [("COMPLETED", 1)] * len(jobs)

@pytest.mark.parametrize("time", [1, 2])
@pytest.mark.parametrize("work", [sqlalchemy, over_asyncpg, over_psycopg])
def test_pool(job_harness, job_postgres, work, time):
    run(job_harness, job_postgres, work)

@pytest.mark.parametrize("time", [1, 2])
def test_one(job_harness, job_postgres, time):
    run(job_harness, job_postgres, one_connection, 1)
"""


@pytest.fixture(scope="module")
def libraries() -> str:
    """What `PYTHONPATH` names; made before a test has a home of its own, where nothing is installed yet."""
    return os.pathsep.join(str(python_package(*each)) for each in (("SQLAlchemy", "2.0.44"), ("asyncpg", "0.31.0")))


def test_each_test_of_a_session_finds_the_pool_of_a_module_open(
    libraries: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", libraries)
    pytester.makeini(INI)
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess("-rA")
    # One connection that a module keeps is no pool: only its own code could open another one.
    result.assert_outcomes(passed=7, failed=1)
    result.stdout.fnmatch_lines(["*that of an earlier test", "*Open it anew in each test*"])
