"""Synchronous processors: each on a thread of its own, abandoned where it does not end. Real time, milliseconds."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any

import pytest

from job_harness_reference.config import Config
from job_harness_reference.models import JobProcessor, JobResult, NewJob, ToolJob
from job_harness_reference.registry import Registry
from job_harness_reference.store.memory import MemoryStore
from job_harness_reference.worker import Worker

START = datetime(2026, 1, 1, tzinfo=UTC)


async def run(processor: JobProcessor, **settings: Any) -> tuple[dict[str, int], ToolJob, Worker]:
    store = MemoryStore(now=lambda: START, jitter=lambda: 0.0)
    registry = Registry()
    registry.register_processor("my-tool", processor)
    await store.register_tool("my-tool")
    new = NewJob(
        tool_slug="my-tool",
        input=1,
        id="job-1",
        queue_id="00000000-0000-4000-8000-000000000001",
        session_id="s",
    )
    await store.enqueue(new)
    config = Config(**{"use_pgboss_workers": "true", **settings})
    worker = Worker(store, registry, config=config, name="w1", jitter=lambda: 0.0)
    counts = await worker.run_once()
    job = await store.get("job-1")
    assert job is not None
    return counts, job, worker


def test_a_plain_function_runs_off_the_event_loop() -> None:
    threads: list[str] = []

    def process(job: ToolJob) -> JobResult:
        threads.append(threading.current_thread().name)
        return JobResult(success=True, output=job.input)

    counts, job, _ = asyncio.run(run(process))

    assert counts == {"completed": 1}
    assert job.output == 1
    assert threads == ["processor my-tool job-1"]


@pytest.mark.parametrize("error", [ValueError("no good"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_plain_function_raises_is_recorded(error: BaseException) -> None:
    def process(_job: ToolJob) -> JobResult:
        raise error

    counts, job, _ = asyncio.run(run(process))

    assert counts == {"retried": 1}
    assert (job.error or "").startswith(type(error).__name__)


def test_a_plain_function_over_its_timeout_is_abandoned() -> None:
    release = threading.Event()

    def process(_job: ToolJob) -> JobResult:
        release.wait(10)
        return JobResult(success=True)

    async def scene() -> None:
        try:
            counts, job, worker = await run(process, job_timeout_ms=20)
            assert counts == {"retried": 1}
            assert "timed out after 0.02 s" in (job.error or "")
            assert "was abandoned" in (job.error or "")
            assert worker.abandoned == ("job-1",)
        finally:
            release.set()

    asyncio.run(scene())


def test_a_thread_that_ends_after_its_loop_is_closed_harms_nobody() -> None:
    release = threading.Event()
    threads: list[threading.Thread] = []

    def process(_job: ToolJob) -> JobResult:
        threads.append(threading.current_thread())
        release.wait(10)
        return JobResult(success=True)

    asyncio.run(run(process, job_timeout_ms=20))
    release.set()
    threads[0].join(10)
    assert not threads[0].is_alive()


def test_a_plain_function_may_return_an_awaitable() -> None:
    async def later(job: ToolJob) -> JobResult:
        return JobResult(success=True, output=job.input)

    def process(job: ToolJob) -> Awaitable[JobResult]:
        return later(job)

    counts, _, _ = asyncio.run(run(process))

    assert counts == {"completed": 1}


def test_an_object_or_a_partial_is_a_processor_too() -> None:
    class Doubler:
        async def __call__(self, job: ToolJob) -> JobResult:
            return JobResult(success=True, output=job.input * 2)

    async def add(amount: int, job: ToolJob) -> JobResult:
        return JobResult(success=True, output=job.input + amount)

    assert asyncio.run(run(Doubler()))[1].output == 2
    assert asyncio.run(run(functools.partial(add, 5)))[1].output == 6


def test_where_no_thread_can_be_started_the_job_fails() -> None:
    async def scene() -> None:
        def process(_job: ToolJob) -> JobResult:
            raise AssertionError("never run")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading.Thread, "start", _no_thread)
            counts, job, worker = await run(process)
        assert counts == {"retried": 1}
        assert "can't start new thread" in (job.error or "")
        assert worker.abandoned == ()

    asyncio.run(scene())


def _no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
