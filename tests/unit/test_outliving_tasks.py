"""A task that is at work after its processor returned is lost with its worker: it is reported, even if it ends soon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from job_harness import JobHarness, JobResult, SideEffect, effect
from job_harness.subjects.processors import ToolJob

RIGHT = JobResult(success=True)


async def receipt(seconds: float = 0) -> None:
    if seconds:
        await asyncio.sleep(seconds)
    effect(SideEffect("mailed", "1", idempotent=True))


async def beats(stop: asyncio.Event) -> None:
    while not stop.is_set():
        await asyncio.wait([asyncio.ensure_future(stop.wait())], timeout=5)


async def forgets(job: ToolJob) -> JobResult:
    await asyncio.sleep(1)
    forgets.task = asyncio.create_task(receipt())  # type: ignore[attr-defined]
    return RIGHT


async def forgets_what_takes_long(job: ToolJob) -> JobResult:
    forgets.task = asyncio.create_task(receipt(1))  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    return RIGHT


async def awaits(job: ToolJob) -> JobResult:
    async with asyncio.TaskGroup() as group:
        group.create_task(receipt(1))
    await asyncio.gather(receipt(), receipt(2))
    return RIGHT


async def cancels(job: ToolJob) -> JobResult:
    task = asyncio.create_task(receipt(60))
    await asyncio.sleep(1)
    task.cancel()
    return RIGHT


async def tells_to_stop(job: ToolJob) -> JobResult:
    stop = asyncio.Event()
    forgets.task = asyncio.create_task(beats(stop))  # type: ignore[attr-defined]
    await asyncio.sleep(12)
    stop.set()
    return RIGHT


@pytest.mark.parametrize("processor", [forgets, forgets_what_takes_long, awaits, cancels, tells_to_stop])
def test_only_a_task_that_nobody_waits_for_is_reported(processor: Callable[[ToolJob], Awaitable[JobResult]]) -> None:
    with JobHarness() as jobs:
        jobs.register("pay", processor)
        jobs.enqueue("pay")
        jobs.run_until_idle()
        jobs.advance("1m")
        told = "\n".join(jobs.problems())
    assert ("of pay job-1 outlived its processor: receipt at " in told) is processor.__name__.startswith("forgets")
    assert bool(told) is processor.__name__.startswith("forgets")
