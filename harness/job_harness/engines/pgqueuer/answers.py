"""Runs in a child that has PgQueuer: the harness's questions in PgQueuer's own API. Knows no harness."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

import anyio
import psycopg
from pgqueuer.errors import DuplicateJobError, RetryRequested
from pgqueuer.executors import DatabaseRetryEntrypointExecutor, EntrypointExecutorParameters
from pgqueuer.models import Context, Job, TracebackRecord
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries


class PgQueuerRefused(Exception):
    """Nothing happened."""


NOT_WRITTEN = (DuplicateJobError, psycopg.DataError, psycopg.errors.UniqueViolation, UnicodeError)
"""What is raised where PostgreSQL, or the driver before it, did not take a statement."""


class PgQueuerAnswers:
    """One connection. The time is the database's; PgQueuer's own clock dates tracebacks and nothing else."""

    async def open(self, url: str) -> None:
        """Connect, and create the schema."""
        await self._connect(url)
        await self.queries.install()
        self.claimed: list[Job] = []

    async def session(self, url: str) -> PgQueuerAnswers:
        """Return another one over a connection of its own."""
        other = PgQueuerAnswers()
        await other._connect(url)
        other.claimed = self.claimed
        return other

    async def _connect(self, url: str) -> None:
        self.connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
        self.queries = Queries.from_psycopg_connection(self.connection)

    async def reset(self) -> None:
        """Forget what is known of the run before; the tables are emptied by the parent."""
        self.claimed.clear()

    async def enqueue(self, tool: str, payload: str, priority: int, wait: int | None, key: str | None) -> int:
        """Enqueue a job that waits for the given microseconds; returns its id."""
        after = None if wait is None else timedelta(microseconds=wait)
        try:
            ids = await self.queries.enqueue(tool, payload.encode(), priority, after, key)
        except NOT_WRITTEN as error:
            raise PgQueuerRefused(f"{type(error).__name__}: {error}") from error
        return int(ids[0])

    async def claim(self, worker: str, tools: dict[str, int], limit: int, stale: int) -> list[dict[str, Any]]:
        """Dequeue up to `limit` jobs of these tools; each maps to how many of its jobs may run at once, 0: any."""
        jobs = await self.queries.dequeue(
            batch_size=limit,
            entrypoints={tool: EntrypointExecutionParameter(most) for tool, most in tools.items()},
            queue_manager_id=uuid.uuid5(uuid.NAMESPACE_URL, worker),
            global_concurrency_limit=None,
            heartbeat_timeout=timedelta(microseconds=stale),
        )
        return [self._picked(job) for job in jobs]

    def _picked(self, job: Job) -> dict[str, Any]:
        self.claimed.append(job)
        name = json.loads(job.payload or b"{}")["job"]
        return {"job": name, "id": job.id, "handle": len(self.claimed) - 1, "tool": job.entrypoint}

    async def heartbeat(self, id: int) -> None:
        """Show that a worker is running a job."""
        await self.queries.update_heartbeat([id])

    async def complete(self, handle: int) -> None:
        """Log a job as successful, which removes it."""
        await self.queries.log_jobs([(self.claimed[handle], "successful", None)])

    async def fail(self, handle: int, error: str, retry: dict[str, Any]) -> None:
        """Do what the worker does after an exception: ask the retrying executor, then retry the job or hold it."""
        job = self.claimed[handle]
        reason = await self._decision(job, error, retry)
        record = TracebackRecord.from_exception(reason, job.id, {"entrypoint": job.entrypoint})
        if not isinstance(reason, RetryRequested):
            await self.queries.log_jobs([(job, "failed", record)])
            return
        try:
            await self.queries.retry_job(job, reason.delay, record)
        except Exception as failure:
            if not hasattr(QueueManager, "log_failure"):  # Older ones leave it picked.
                raise
            await self.queries.log_jobs([(job, "failed", TracebackRecord.from_exception(failure, job.id))])

    async def _decision(self, job: Job, error: str, retry: dict[str, Any]) -> Exception:
        async def raises(job: Job) -> None:
            raise RuntimeError(error)

        executor = DatabaseRetryEntrypointExecutor(
            EntrypointExecutorParameters(concurrency_limit=0, func=raises, on_failure="hold"),
            max_attempts=retry["most"] - 1,
            initial_delay=timedelta(microseconds=retry["delay"]),
            max_delay=timedelta(microseconds=retry["longest"]),
            backoff_multiplier=2.0 if retry["backoff"] else 1.0,
        )
        try:
            await executor.execute(job, Context(anyio.CancelScope()))
        except Exception as reason:  # noqa: BLE001 - the reason is the answer
            return reason
        raise AssertionError("the job raised, and its executor did not")

    async def cancel(self, id: int) -> None:
        """Cancel a job, which removes it."""
        await self.queries.mark_job_as_cancelled([id])

    async def retry(self, id: int) -> None:
        """Requeue a job that is held as failed."""
        try:
            await self.queries.requeue_jobs([id])
        except NOT_WRITTEN as error:
            raise PgQueuerRefused(f"{type(error).__name__}: {error}") from error


Answers, Refused = PgQueuerAnswers, PgQueuerRefused
"""By these names the child's own loop finds who answers, and what says that nothing was done."""
