"""A crash frees the connections of a dead worker: the pool has a new one, and PostgreSQL rolled back the old."""

from __future__ import annotations

import asyncio

import pytest
from psycopg_pool import AsyncConnectionPool

from job_harness.doors.pytest.fixtures import JobPostgres
from job_harness.subjects.processors import JobHarness, JobResult, ToolJob, effect

pytestmark = pytest.mark.postgres


def test_the_only_connection_of_a_pool_is_free_again_and_so_are_its_locks(job_postgres: JobPostgres) -> None:
    pool = AsyncConnectionPool(job_postgres.url, min_size=1, max_size=1, open=False)

    async def processor(job: ToolJob) -> JobResult:
        await pool.open()
        async with pool.connection() as connection:
            await connection.execute("LOCK TABLE held IN EXCLUSIVE MODE")
            effect(f"held {job.attempts}")
            await asyncio.sleep(1)
        if job.attempts == 3:
            await pool.close()
        return JobResult(success=job.attempts == 3, error="not yet")

    async def prepare(job: ToolJob) -> JobResult:
        async with AsyncConnectionPool(job_postgres.url, min_size=1) as own, own.connection() as connection:
            await connection.execute("CREATE TABLE held ()")
        return JobResult(success=True)

    with JobHarness(blocked_after=5.0) as harness:
        harness.perform_job(prepare, None)
        harness.register("tool", processor)
        job = harness.enqueue("tool")
        harness.crash_worker(at="held 1")  # The pool was opened by the worker that dies.
        harness.crash_worker(at="held 2")  # And now by no dying worker.
        harness.run_until_idle()
        assert (job.status, job.attempts, job.error) == ("COMPLETED", 3, None)
        assert harness.problems() == []
    job_postgres.reset()
