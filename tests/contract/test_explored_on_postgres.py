"""Two jobs at once on a real PostgreSQL: what they ask at one instant reaches it in one order, in every run."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.postgres
TWO_JOBS = """
import asyncio, psycopg, pytest
from job_harness import JobResult

@pytest.fixture
def rows(job_postgres):
    with psycopg.connect(job_postgres.url) as connection:
        connection.execute("CREATE TABLE counted (row int PRIMARY KEY, times int NOT NULL)")
        connection.execute("INSERT INTO counted VALUES (1, 0), (2, 0)")

def test_counted(job_harness, job_postgres, rows):
    async def count(job):
        async with await psycopg.AsyncConnection.connect(job_postgres.url) as connection:
            for row in ROWS:
                await connection.execute("UPDATE counted SET times = times + 1 WHERE row = %s", [row])
                await connection.execute("SELECT times FROM counted WHERE row = %s", [row])
        return JobResult(success=True)
    job_harness.register("count", count)
    for row in (1, 2):
        job_harness.enqueue("count", row)
    job_harness.run_until_idle()
"""


@pytest.mark.parametrize("rows", ["[job.input]", "[1, 2]", "[1] if job.input == 1 else [2, 1]"])
def test_two_jobs_are_explored_also_where_one_waits_for_a_lock_of_the_other(
    pytester: pytest.Pytester, rows: str
) -> None:
    pytester.makepyfile(TWO_JOBS.replace("ROWS", rows))
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--job-explore=4", "-rA")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["4 disturbed runs *; fork, as it makes tables in a fixture, seed 0*"])


IN_A_COPY = """
import psycopg, pytest
from job_harness import JobResult

@pytest.fixture(scope="session")
def job_postgres_schema():
    def migrate(url):
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE paid (id int GENERATED ALWAYS AS IDENTITY, job text)")
    return migrate

@pytest.fixture
def first(job_postgres):
    with psycopg.connect(job_postgres.url) as connection:
        return connection.execute("INSERT INTO paid (job) VALUES ('first') RETURNING id").fetchone()

@pytest.mark.parametrize("guard", ["false", "NOT EXISTS (SELECT FROM paid WHERE job = %(job)s)"])
def test_paid(job_harness, job_postgres, first, guard):
    async def pay(job):
        async with await psycopg.AsyncConnection.connect(job_postgres.url, autocommit=True) as connection:
            for where in ("true" if guard == "false" else guard, "false"):
                await connection.execute(
                    f"INSERT INTO paid (job) SELECT %(job)s WHERE {where}", {"job": job.id}
                )
        return JobResult(success=True)

    assert first == (1,)
    job_harness.register("pay", pay)
    job_harness.enqueue("pay")
    job_harness.run_until_idle()
    with psycopg.connect(job_postgres.url, autocommit=True) as connection:
        rows = connection.execute("SELECT count(*) FROM paid").fetchone()
    job_harness.always(lambda harness: rows == (2,))
"""


@pytest.mark.long
def test_runs_share_one_process_whose_database_is_put_back_after_each(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(IN_A_COPY)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--job-explore=12", "-rA")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*invariant_violated in test_paid*", "12 disturbed runs *; copy, seed 0*"])
