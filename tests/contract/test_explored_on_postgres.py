"""Two jobs at once on a real PostgreSQL: in which order its answers arrive is no difference between two runs."""

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


@pytest.mark.parametrize("rows", ["[job.input]", "[1] if job.input == 1 else [2, 1]"])
def test_two_jobs_are_explored_also_where_one_waits_for_a_lock_of_the_other(
    pytester: pytest.Pytester, rows: str
) -> None:
    pytester.makepyfile(TWO_JOBS.replace("ROWS", rows))
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--job-explore=4")
    result.assert_outcomes(passed=1)
