"""Runs in a child that has procrastinate: the harness's questions in procrastinate's own API. Knows no harness."""

from __future__ import annotations

import datetime
import logging
from typing import Any

import procrastinate
from procrastinate import exceptions, jobs, manager, utils
from procrastinate.retry import RetryStrategy
from procrastinate.tasks import Task
from procrastinate.worker import Worker

LAST = datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC)
"""A retry that would be later than its calendar goes is due then; half a day is left for it to run."""


class ProcrastinateRefused(Exception):
    """Nothing happened."""


class ProcrastinateTaskFailed(Exception):
    """What a task raises here."""


class ProcrastinateAnswers:
    """One app on one database. Its own clock is set with each question, beside the database's."""

    async def open(self, url: str) -> None:
        """Connect, and create the schema."""
        await self._connect(url)
        await self.app.schema_manager.apply_schema_async()
        self.claimed: dict[tuple[int, int], jobs.Job] = {}
        self.processes: list[ProcrastinateAnswers] = [self]

    async def session(self, url: str) -> ProcrastinateAnswers:
        """Return another one over a connection of its own, which no worker is registered over yet."""
        other = ProcrastinateAnswers()
        await other._connect(url)
        other.claimed, other.processes = self.claimed, self.processes
        self.processes.append(other)
        return other

    async def leave(self) -> None:
        """Ask for no connection any more."""
        self.processes.remove(self)
        await self.app.close_async()

    async def _connect(self, url: str) -> None:
        connector = procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=1)
        self.app = procrastinate.App(connector=connector)
        await self.app.open_async()
        self.manager = self.app.job_manager
        if hasattr(utils, "utcmax"):
            utils.utcmax = lambda: LAST
        self.workers: dict[str, int] = {}
        self.holding: dict[str, set[int]] = {}

    async def reset(self) -> None:
        """Forget what is known of the run before; the tables are emptied by the parent."""
        for process in self.processes:
            process.workers.clear()
            process.holding.clear()
        self.claimed.clear()

    async def enqueue(self, now: str, tool: str, args: dict[str, Any], **options: Any) -> int:
        """Defer a job; return its id."""
        self._set(now)
        start = options.pop("start_after")
        at = None if start is None else datetime.datetime.fromisoformat(start)
        task = self.app.configure_task(tool, allow_unknown=True, queue=tool, schedule_at=at, **options)
        try:
            return int(await task.defer_async(**args))
        except exceptions.AlreadyEnqueued as error:
            raise ProcrastinateRefused(str(error)) from error

    async def claim(self, now: str, worker: str, limit: int) -> list[dict[str, Any]]:
        """Fetch up to `limit` jobs, as a worker that has just shown that it lives.

        One that asks for more while it holds a job has died meanwhile: the process that follows
        registers anew.
        """
        self._set(now)
        if worker not in self.workers or self.holding[worker]:
            self.workers[worker] = await self.manager.register_worker()
            self.holding[worker] = set()
        me = self.workers[worker]
        await self.manager.update_heartbeat(worker_id=me)
        fetched = []
        for _ in range(limit):
            job = await self.manager.fetch_job(queues=None, worker_id=me)
            if job is None:
                break
            self.claimed[job.id, job.attempts] = job
            self.holding[worker].add(job.id)
            fetched.append({"id": job.id, "attempts": job.attempts, "args": job.task_kwargs, "tool": job.task_name})
        return fetched

    async def heartbeat(self, now: str, worker: str) -> None:
        """Show that a worker lives."""
        self._set(now)
        await self.manager.update_heartbeat(worker_id=self.workers[worker])

    async def complete(self, now: str, worker: str, id: int, attempts: int) -> None:
        """Finish a job as succeeded."""
        self._set(now)
        job = self._ended(worker, id, attempts)
        await self._report_ending(self.manager.finish_job(job=job, status=jobs.Status.SUCCEEDED, delete_job=False))

    async def fail(self, now: str, worker: str, id: int, attempts: int, most: int, **waits: int) -> None:
        """Do what the worker does after an exception: ask the retry strategy, then retry or finish as failed.

        Where the strategy raises, the worker goes on to finish the job, as failed.
        """
        self._set(now)
        job = self._ended(worker, id, attempts)
        strategy = RetryStrategy(max_attempts=most - 1, **waits)
        try:
            decision = strategy.get_retry_decision(exception=RuntimeError("failed"), job=job) if most > 1 else None
        except Exception:  # noqa: BLE001 - whatever a strategy raises, the worker's `finally` follows
            decision = None
        if decision is None:
            await self._report_ending(self.manager.finish_job(job=job, status=jobs.Status.FAILED, delete_job=False))
        else:
            await self._report_ending(self.manager.retry_job(job=job, retry_at=decision.retry_at))

    async def cancel(self, now: str, id: int) -> None:
        """Cancel a job that waits."""
        self._set(now)
        if not await self.manager.cancel_job_by_id_async(id):
            raise ProcrastinateRefused("the job does not wait")

    async def retry(self, now: str, id: int) -> None:
        """Retry a job by hand."""
        self._set(now)
        await self._report_ending(self.manager.retry_job_by_id_async(job_id=id, retry_at=utils.utcnow()))

    async def expire(self, now: str, seconds: float) -> list[int]:
        """Do what the manual tells users to run as a periodic task: retry the jobs of workers that went silent."""
        self._set(now)
        stalled = list(await self.manager.get_stalled_jobs(seconds_since_heartbeat=seconds))
        for job in stalled:
            await self.manager.retry_job(job)
        return [job.id for job in stalled]

    def _ended(self, worker: str, id: int, attempts: int) -> jobs.Job:
        self.holding.get(worker, set()).discard(id)
        return self.claimed[id, attempts]

    async def _report_ending(self, work: Any) -> None:
        try:
            await work
        except exceptions.ConnectorException as error:
            cause = str(error.__cause__ or error)
            if "Job was not found" in cause:
                raise ProcrastinateRefused(cause.splitlines()[0]) from error
            raise

    @staticmethod
    def _set(now: str) -> None:
        moment = datetime.datetime.fromisoformat(now)
        utils.utcnow = lambda: moment


class WorkerlessAnswers(ProcrastinateAnswers):
    """Procrastinate before 3.1, whose workers are no rows and have no heartbeat."""

    async def claim(self, now: str, worker: str, limit: int) -> list[dict[str, Any]]:
        """Fetch up to `limit` jobs."""
        self._set(now)
        fetched: list[dict[str, Any]] = []
        while len(fetched) < limit and (job := await self.manager.fetch_job(queues=None)) is not None:
            self.claimed[job.id, job.attempts] = job
            fetched.append({"id": job.id, "attempts": job.attempts, "args": job.task_kwargs, "tool": job.task_name})
        return fetched

    async def expire(self, now: str, seconds: float) -> list[int]:
        """Do what the manual tells users to run as a periodic task: retry the jobs that started too long ago."""
        self._set(now)
        stalled = list(await self.manager.get_stalled_jobs(nb_seconds=seconds))
        for job in stalled:
            await self.manager.retry_job(job)
        return [job.id for job in stalled]


class SecondProcrastinateAnswers(WorkerlessAnswers):
    """Procrastinate 2. A job ends in its own `Worker.process_job`."""

    async def complete(self, now: str, worker: str, id: int, attempts: int) -> None:
        """Let the worker run a task that returns."""
        self._set(now)
        await self._ended_in_worker(self.claimed[id, attempts], None, False)

    async def fail(self, now: str, worker: str, id: int, attempts: int, most: int, **waits: int) -> None:
        """Let the worker run a task that raises."""
        self._set(now)
        strategy = RetryStrategy(max_attempts=most - 1, **waits) if most > 1 else False
        await self._ended_in_worker(self.claimed[id, attempts], ProcrastinateTaskFailed("failed"), strategy)

    async def _ended_in_worker(self, job: jobs.Job, error: Exception | None, retry: Any) -> None:
        async def run(**kwargs: Any) -> None:
            if error is not None:
                raise error

        self.app.tasks[job.task_name] = Task(run, blueprint=self.app, name=job.task_name, queue=job.queue, retry=retry)
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL + 1)
        work = Worker(self.app, install_signal_handlers=False).process_job(job)
        try:
            await self._report_ending(work)
        except ProcrastinateRefused:
            if await self.manager.get_job_status_async(job_id=job.id) == jobs.Status.ABORTING:
                raise RuntimeError("its worker's report is refused, and the job goes on aborting") from None
            raise

    async def cancel(self, now: str, id: int) -> None:
        """Cancel a job that waits; ask one that runs to abort."""
        self._set(now)
        if not await self.manager.cancel_job_by_id_async(id, abort=True):
            raise ProcrastinateRefused("the job has ended")


def answers() -> type[ProcrastinateAnswers]:
    """Return who answers for the installed release."""
    if "register_worker" in vars(manager.JobManager):
        return ProcrastinateAnswers
    return SecondProcrastinateAnswers if "process_job" in vars(Worker) else WorkerlessAnswers


Answers = answers()
Refused = ProcrastinateRefused
"""By these names the child's own loop finds who answers, and what says that nothing was done."""
