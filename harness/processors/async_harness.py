"""`AsyncJobHarness`: the same harness for tests that are coroutines; every method is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar, Unpack

from harness.adapters.reference.application import JobProcessor, JobResult
from harness.history.event import Effect, History
from harness.model.job import JobId, Json
from harness.model.lifecycle import Status
from harness.processors.assertions import Counts, JobHandle, Looked
from harness.processors.job_harness import JobHarness
from harness.processors.length import Length

T = TypeVar("T")


class AsyncJobHarness:
    """Lets a `JobHarness` work on a thread, while the test's own loop stays free. Handles are read as ever."""

    def __init__(self, harness: JobHarness) -> None:
        self._harness = harness
        self._turn = asyncio.Lock()

    async def register(self, slug: str, processor: JobProcessor | str) -> None:
        """See `JobHarness.register`."""
        self._harness.register(slug, processor)

    async def enqueue(self, slug: str, input: Json = None, **options: Any) -> JobHandle:
        """See `JobHarness.enqueue`."""
        return self._harness.enqueue(slug, input, **options)

    async def perform_job(self, processor: JobProcessor | str, input: Json) -> JobResult:
        """See `JobHarness.perform_job`."""
        return await self._let(lambda: self._harness.perform_job(processor, input))

    async def work_one(self) -> JobHandle | None:
        """See `JobHarness.work_one`."""
        return await self._let(self._harness.work_one)

    async def drain(
        self, *, with_scheduled: bool = False, with_recursion: bool = True, limit: int | None = None
    ) -> Counts:
        """See `JobHarness.drain`."""
        return await self._let(
            lambda: self._harness.drain(with_scheduled=with_scheduled, with_recursion=with_recursion, limit=limit)
        )

    async def run_until_idle(self) -> None:
        """See `JobHarness.run_until_idle`."""
        await self._let(self._harness.run_until_idle)

    async def advance(self, duration: Length) -> None:
        """See `JobHarness.advance`."""
        await self._let(lambda: self._harness.advance(duration))

    async def jump(self, duration: Length) -> None:
        """See `JobHarness.jump`."""
        await self._let(lambda: self._harness.jump(duration))

    async def wait_for(
        self, what: JobHandle | JobId | Callable[[], object], status: str | None = None, *, within: Length = "1d"
    ) -> None:
        """See `JobHarness.wait_for`."""
        await self._let(lambda: self._harness.wait_for(what, status, within=within))

    async def cancel(self, job: JobHandle | JobId) -> bool:
        """See `JobHarness.cancel`."""
        return self._harness.cancel(job)

    async def retry(self, job: JobHandle | JobId) -> bool:
        """See `JobHarness.retry`."""
        return self._harness.retry(job)

    async def crash_worker(self, *, at: str | None = None, job: JobHandle | JobId | None = None) -> None:
        """See `JobHarness.crash_worker`."""
        await self._let(lambda: self._harness.crash_worker(at=at, job=job))

    async def deliver_twice(self, job: JobHandle | JobId) -> None:
        """See `JobHarness.deliver_twice`."""
        self._harness.deliver_twice(job)

    async def all_enqueued(self, slug: str | None = None, **wanted: Unpack[Looked]) -> list[JobHandle]:
        """See `JobHarness.all_enqueued`."""
        return self._harness.all_enqueued(slug, **wanted)

    async def assert_enqueued(
        self, slug: str | None = None, *, count: int | None = None, **wanted: Unpack[Looked]
    ) -> JobHandle:
        """See `JobHarness.assert_enqueued`."""
        return self._harness.assert_enqueued(slug, count=count, **wanted)

    async def refute_enqueued(self, slug: str | None = None, **wanted: Unpack[Looked]) -> None:
        """See `JobHarness.refute_enqueued`."""
        self._harness.refute_enqueued(slug, **wanted)

    async def assert_path(self, job: JobHandle | JobId, path: list[str]) -> None:
        """See `JobHarness.assert_path`."""
        self._harness.assert_path(job, path)

    async def effects(self, name: str | None = None, *, job: JobHandle | JobId | None = None) -> list[Effect]:
        """See `JobHarness.effects`."""
        return self._harness.effects(name, job=job)

    async def status(self, job: JobHandle | JobId) -> Status:
        """See `JobHarness.status`."""
        return self._harness.status(job)

    @property
    def now(self) -> datetime:
        """The virtual time of day, in UTC."""
        return self._harness.now

    @property
    def history(self) -> History:
        """Everything that was observed."""
        return self._harness.history

    async def _let(self, work: Callable[[], T]) -> T:
        self._harness.refuse_inside()
        async with self._turn:
            return await asyncio.to_thread(work)
