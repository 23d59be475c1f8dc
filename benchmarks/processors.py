"""What running a user's processors costs: one job, many jobs, a day of retries, a week of the cron, a frozen clock.

Usage: .venv/bin/python benchmarks/processors.py [ROUNDS]
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from paired import Aim, interleave, seconds_of, show

from job_harness.subjects.processors import JobHarness, JobResult, ToolJob
from job_harness.subjects.processors.contract import check_processor
from job_harness.subjects.processors.job_clock import JobClock

DONE = JobResult(success=True)
MANY = 10_000
CALLS = 200


async def quick(job: ToolJob) -> JobResult:
    """Do nothing, as a coroutine does."""
    return DONE


def plain(job: ToolJob) -> JobResult:
    """Do nothing, on a thread."""
    return DONE


async def flaky(job: ToolJob) -> JobResult:
    """Fail until a day of retries is over."""
    return JobResult(success=job.attempts >= 28, error="not yet")


def called(processor: Any) -> float:
    """Call a function; answer seconds for one."""
    job: Any = None

    async def calls() -> None:
        for _ in range(CALLS):
            await processor(job)

    return seconds_of(lambda: asyncio.run(calls())) / CALLS


def performed(processor: Any) -> float:
    """Perform jobs in one harness; answer seconds for one."""
    with JobHarness() as jobs:
        return seconds_of(lambda: [jobs.perform_job(processor, {"n": 1}) for _ in range(CALLS)]) / CALLS


def harness_opened() -> float:
    """Open a harness, perform one job, close it: what a test pays."""

    def test() -> None:
        with JobHarness() as jobs:
            jobs.perform_job(quick, {"n": 1})

    return seconds_of(test)


def drained(many: int) -> float:
    """Send jobs and drain them; answer seconds for one."""
    with JobHarness() as jobs:
        jobs.register("quick", quick)
        for number in range(many):
            jobs.enqueue("quick", number)
        return seconds_of(lambda: jobs.drain()["completed"]) / many


def looped(many: int) -> float:
    """Await the processor in a bare loop; answer seconds for one."""
    job: Any = None

    async def calls() -> None:
        for _ in range(many):
            await asyncio.create_task(quick(job))  # type: ignore[arg-type]  # it is a coroutine

    return seconds_of(lambda: asyncio.run(calls())) / many


def day_of_retries() -> float:
    """Let a job fail 27 times with backoff; answer seconds."""
    with JobHarness() as jobs:
        jobs.register("flaky", flaky)
        job = jobs.enqueue("flaky", max_attempts=30)
        took = seconds_of(jobs.run_until_idle)
        assert job.status == "COMPLETED"
        return took


def week_of_cron() -> float:
    """Let a week pass with a job an hour; worker and cron look on their grids; answer seconds."""
    with JobHarness() as jobs:
        jobs.register("quick", quick)
        for hour in range(7 * 24):
            jobs.enqueue("quick", hour, start_after=f"{hour}h")
        return seconds_of(lambda: jobs.advance("7d"))


def with_clock(*, frozen: bool) -> float:
    """Do what a test of a job with a retry does, clock frozen or not; answer seconds."""

    def test() -> None:
        clock = JobClock()
        with JobHarness() as jobs:
            clock.drive(jobs)
            if frozen:
                clock.freeze()
            jobs.register("quick", quick)
            jobs.enqueue("quick", start_after="1h")
            jobs.run_until_idle()
        clock.close()

    return seconds_of(test)


async def three_waits(job: ToolJob) -> JobResult:
    """Wait three times, on a dictionary."""
    for _ in range(3):
        await asyncio.sleep(job.input["seconds"])
    return DONE


def contract() -> float:
    """Judge a processor by its whole contract; answer seconds."""
    return seconds_of(lambda: check_processor(three_waits, examples=[{"seconds": 60}]))


def empty() -> float:
    """Take the time of 50 ms: what the aim of a day is held against."""
    return 0.05


def second() -> float:
    """Take the time of one second: what the aim of a week is held against."""
    return 1.0


def main(rounds: int) -> None:
    one = {
        "calling the function": lambda: called(quick),
        "perform_job, a coroutine": lambda: performed(quick),
        "perform_job, a plain function": lambda: performed(plain),
        "a harness opened for it": harness_opened,
    }
    show(
        "What does one job cost?",
        interleave(one, rounds=rounds, seconds=30),
        base="calling the function",
        unit="us",
        scale=1e6,
    )
    many = {
        "a bare loop": lambda: looped(MANY),
        f"drain of {MANY} jobs": lambda: drained(MANY),
        "drain of 1000 jobs": lambda: drained(1000),
    }
    show(
        "What does one of many jobs cost?",
        interleave(many, rounds=rounds, seconds=60),
        base="a bare loop",
        unit="us",
        scale=1e6,
        note="Claimed, run, settled, recorded, and judged by every invariant.",
    )
    long = {"50 ms": empty, "a day of retries with backoff": day_of_retries}
    aim = Aim("a day of retries with backoff", 1.0, "It is 27 attempts of the real worker.")
    show("How long does a day take?", interleave(long, rounds=rounds, seconds=30), base="50 ms", unit="s", aims=[aim])
    week = {"1 s": second, "a week of the cron, a job an hour": week_of_cron}
    aim = Aim("a week of the cron, a job an hour", 1.0, "It is 168 jobs of the real worker.")
    show("How long does a week take?", interleave(week, rounds=rounds, seconds=30), base="1 s", unit="s", aims=[aim])
    tries = {"a harness opened for one job": harness_opened, "a whole ProcessorContract": contract}
    show(
        "What does a contract cost?",
        interleave(tries, rounds=rounds, seconds=30),
        base="a harness opened for one job",
        unit="ms",
        scale=1e3,
        note="Its processor waits three times: 13 tries, each in a forked child.",
    )
    clocks = {
        "clock not frozen": lambda: with_clock(frozen=False),
        "clock frozen": lambda: with_clock(frozen=True),
    }
    show(
        "What does a frozen clock cost a test?",
        interleave(clocks, rounds=rounds * 3, seconds=30),
        base="clock not frozen",
        unit="ms",
        scale=1e3,
        note=f"{len(sys.modules)} modules were loaded.",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
