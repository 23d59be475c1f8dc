"""`AsyncJobHarness`: the same harness for tests that are coroutines; every method is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from harness.adapters.reference.application import JobProcessor, JobResult
from harness.history.event import History
from harness.model.job import JobId, Json
from harness.model.lifecycle import Status
from harness.processors.counts import Counts
from harness.processors.handle import JobHandle
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

    async def enqueue(self, slug: str, input: Json, **options: Any) -> JobHandle:
        """See `JobHarness.enqueue`."""
        return self._harness.enqueue(slug, input, **options)

    async def perform_job(self, processor: JobProcessor | str, input: Json) -> JobResult:
        """See `JobHarness.perform_job`."""
        return await self._let(lambda: self._harness.perform_job(processor, input))

    async def work_one(self) -> JobHandle | None:
        """See `JobHarness.work_one`."""
        return await self._let(self._harness.work_one)

    async def drain(self, *, with_scheduled: bool = False, limit: int | None = None) -> Counts:
        """See `JobHarness.drain`."""
        return await self._let(lambda: self._harness.drain(with_scheduled=with_scheduled, limit=limit))

    async def run_until_idle(self) -> None:
        """See `JobHarness.run_until_idle`."""
        await self._let(self._harness.run_until_idle)

    async def advance(self, duration: Length) -> None:
        """See `JobHarness.advance`."""
        await self._let(lambda: self._harness.advance(duration))

    async def jump(self, duration: Length) -> None:
        """See `JobHarness.jump`."""
        await self._let(lambda: self._harness.jump(duration))

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
