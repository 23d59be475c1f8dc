"""A task that is at work after its processor returned is lost with its worker: it is reported, even if it ends soon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

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


def wrapped(function: Callable[[], Awaitable[None]]) -> Any:
    """Stands for a decorator of a library's, whose code the task then runs."""
    found: dict[str, Any] = {"function": function}
    exec(compile("async def retried(): await function()", "site-packages/retrying.py", "exec"), found)
    return found["retried"]


async def forgets_what_has_ended(job: ToolJob) -> JobResult:
    forgets.task = asyncio.create_task(wrapped(receipt)())  # type: ignore[attr-defined]
    await asyncio.sleep(5)
    return RIGHT


async def forgets_what_a_set_keeps(job: ToolJob) -> JobResult:
    kept = {task := asyncio.create_task(receipt())}
    task.add_done_callback(kept.discard)
    await asyncio.sleep(5)
    return RIGHT


POOL = """
import asyncio

async def keep():
    await asyncio.Event().wait()

def open_pool():
    return asyncio.create_task(keep())
"""


async def opens_a_pool_that_a_module_keeps(job: ToolJob) -> JobResult:
    library: dict[str, Any] = {}
    exec(compile(POOL, "site-packages/pools.py", "exec"), library)
    forgets.task = library["open_pool"]()  # type: ignore[attr-defined]
    await asyncio.sleep(1)
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


async def stops_its_heartbeat_before_it_ends(job: ToolJob) -> JobResult:
    stop = asyncio.Event()
    forgets.task = asyncio.create_task(beats(stop))  # type: ignore[attr-defined]
    await asyncio.sleep(12)
    stop.set()
    await asyncio.sleep(1)
    return RIGHT


FORGETFUL = [forgets, forgets_what_takes_long, forgets_what_has_ended, forgets_what_a_set_keeps]


@pytest.mark.parametrize(
    "processor",
    [*FORGETFUL, awaits, cancels, tells_to_stop, stops_its_heartbeat_before_it_ends, opens_a_pool_that_a_module_keeps],
)
def test_only_a_task_that_nobody_waits_for_is_reported(processor: Callable[[ToolJob], Awaitable[JobResult]]) -> None:
    with JobHarness() as jobs:
        jobs.register("pay", processor)
        jobs.enqueue("pay")
        jobs.run_until_idle()
        jobs.advance("1m")
        told = "\n".join(jobs.problems())
    assert (" of pay job-1" in told) is (processor in FORGETFUL)
    assert bool(told) is (processor in FORGETFUL)
