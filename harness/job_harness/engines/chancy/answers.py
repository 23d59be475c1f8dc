"""Runs in a child that has Chancy: the harness's questions in Chancy's own API. Knows no harness."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import logging
from typing import Any

from chancy import app, utils
from chancy.app import Chancy
from chancy.executors import base
from chancy.executors.asyncex import AsyncExecutor
from chancy.job import Job
from chancy.plugin import Plugin
from chancy.plugins import retry
from chancy.plugins.recovery import Recovery
from chancy.queue import Queue
from chancy.worker import Worker
from psycopg import DataError
from psycopg.rows import dict_row

QUEUE = Queue("default")


class ChancyRefused(Exception):
    """Nothing happened."""


DROPS_LATE_RESULTS = "flush" in vars(Worker)
"""From 0.26 on, an update from a claim that was taken back is dropped when a worker flushes what it has to write."""


class ChancyTaskFailed(Exception):
    """What a job raises here."""


class ChancyClock(datetime.datetime):
    """The time of day that its modules read."""

    shows = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """Return what the harness's clock shows."""
        return cls.shows


class Written(Plugin):  # type: ignore[misc]
    """Notices when the update of a job has been written."""

    def __init__(self) -> None:
        super().__init__()
        self.event = asyncio.Event()

    @staticmethod
    def get_identifier() -> str:
        """Return a name that no plugin of Chancy's has."""
        return "job_harness.written"

    async def on_job_updated(self, *, job: Any, worker: Any) -> None:
        """Say so."""
        self.event.set()


class ChancyAnswers:
    """One application on one database, and a worker by each name."""

    async def open(self, url: str) -> None:
        """Connect, and create the tables."""
        base.datetime = retry.datetime = ChancyClock
        log = logging.getLogger("chancy.harness")
        log.setLevel(logging.CRITICAL + 1)
        self.written = Written()
        plugins = [retry.RetryPlugin(), self.written]
        self.chancy = Chancy(url, plugins=plugins, no_default_plugins=True, log=log, max_connection_pool_size=1)
        await self.chancy.pool.open()
        await self.chancy.migrate()
        self.workers: dict[str, Any] = {}
        self.claimed: dict[int, tuple[Any, Any]] = {}
        self.holding: dict[str, set[int]] = {}

    async def reset(self, silence: int) -> None:
        """Forget what is known of the run before; the tables are emptied by the parent."""
        self.silence = silence
        for kept in (self.workers, self.claimed, self.holding):
            kept.clear()
        self.names = itertools.count(1)
        numbers = itertools.count(1)
        app.chancy_uuid = utils.chancy_uuid = lambda: f"{next(numbers):032x}"

    async def enqueue(self, now: str, after: str | None, **about: Any) -> str:
        """Push a job; return its id, or that of the job that holds its key."""
        self._set(now)
        due = ChancyClock.shows if after is None else datetime.datetime.fromisoformat(after)
        reference = await self.chancy.push(Job(func="answers.tool", scheduled_at=due, **about))
        return str(reference.identifier).replace("-", "")

    async def claim(self, now: str, worker: str, limit: int, number: int) -> list[dict[str, Any]]:
        """Fetch up to `limit` jobs, as a worker that has just shown that it lives.

        One that asks for more while it holds a job has died meanwhile: the process that follows has
        another id.
        """
        self._set(now)
        if worker not in self.workers or self.holding[worker]:
            self.workers[worker] = Worker(
                self.chancy, worker_id=f"{worker}/{next(self.names)}", heartbeat_timeout=self.silence
            )
            self.workers[worker].send_outgoing_interval = 0
            self.holding[worker] = set()
        me = self.workers[worker]
        async with self.chancy.pool.connection() as connection:
            await me.announce_worker(connection)
            fetched = await me.fetch_jobs(QUEUE, connection, up_to=limit)
        claimed = []
        for job in fetched:
            number += 1
            self.claimed[number] = me, job
            self.holding[worker].add(number)
            claimed.append({**job.kwargs, "number": number})
        return claimed

    async def heartbeat(self, now: str, worker: str) -> None:
        """Show that a worker lives."""
        self._set(now)
        me = self.workers[worker]
        async with self.chancy.pool.connection() as connection:
            await me.announce_worker(connection)

    async def complete(self, now: str, worker: str, number: int) -> None:
        """Do what an executor does when a job has returned, and write it."""
        self._set(now)
        await self._ended(worker, number, None)

    async def fail(self, now: str, worker: str, number: int, error: str) -> None:
        """Do what an executor does when a job has raised, and write it."""
        self._set(now)
        await self._ended(worker, number, ChancyTaskFailed(error))

    async def _ended(self, worker: str, number: int, error: Exception | None) -> None:
        self.holding.get(worker, set()).discard(number)
        if number not in self.claimed:
            raise ChancyRefused("the job was settled already")
        me, job = self.claimed.pop(number)
        await AsyncExecutor(me, QUEUE).on_job_completed(job=job, exc=error, result=None)
        self.written.event.clear()
        try:
            await self._write(me)
        except DataError:  # ends the task that writes, and so its process: what follows by that name is another
            if self.workers.get(worker) is me:
                del self.workers[worker]
            raise

    async def _write(self, me: Any) -> None:
        """Do what a worker's task for updates does."""
        if DROPS_LATE_RESULTS:
            await me.flush()
            if not self.written.event.is_set():
                raise ChancyRefused("the claim was taken back")
            return
        writing = asyncio.create_task(me._maintain_updates())
        noticing = asyncio.create_task(self.written.event.wait())
        try:
            await asyncio.wait({writing, noticing}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        finally:
            writing.cancel()
            noticing.cancel()

    async def expire(self, now: str) -> None:
        """Recover the jobs of workers that went silent, as its plugin does on one worker."""
        self._set(now)
        me = Worker(self.chancy, worker_id="upkeep", heartbeat_timeout=self.silence)
        async with self.chancy.pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await Recovery.recover(me, self.chancy, cursor)

    @staticmethod
    def _set(now: str) -> None:
        ChancyClock.shows = datetime.datetime.fromisoformat(now)


Answers, Refused = ChancyAnswers, ChancyRefused
"""By these names the child's own loop finds who answers, and what says that nothing was done."""
