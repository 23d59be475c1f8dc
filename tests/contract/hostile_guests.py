"""Processors that do their worst, in Python: what every way of running a processor is held to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from job_harness.subjects.processors import JobResult, ToolJob

DONE = JobResult(success=True)


async def computes_for_ever(job: ToolJob) -> JobResult:
    while True:
        pass


async def computes_whatever_is_raised(job: ToolJob) -> JobResult:
    while True:
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001 - the worst there is
            continue


async def cannot_be_interrupted(job: ToolJob) -> JobResult:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
    while True:
        pass


def computes_on_its_thread(job: ToolJob) -> JobResult:
    while True:
        pass


async def waits_in_the_system(job: ToolJob) -> JobResult:
    select.select([], [], [], 60)  # noqa: TID251 - as a user's processor may
    return DONE


async def swallows_its_cancellation(job: ToolJob) -> JobResult:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)


async def gives_way_for_ever(job: ToolJob) -> JobResult:
    while True:  # noqa: ASYNC110 - that is what it is about
        await asyncio.sleep(0)


def sleeps_for_nothing(job: ToolJob) -> JobResult:
    while True:
        time.sleep(0)  # noqa: TID251 - that is what it is about


def leaves_the_process(job: ToolJob) -> JobResult:
    os._exit(0)


def leaves_by_an_exception(job: ToolJob) -> JobResult:
    sys.exit(0)


class _Leaves(Exception):
    def __str__(self) -> str:
        os._exit(0)


def leaves_when_it_is_read(job: ToolJob) -> JobResult:
    raise _Leaves


def forks(job: ToolJob) -> JobResult:
    if os.fork() == 0:
        while True:
            signal.pause()
    return DONE


async def goes_on_twice(job: ToolJob) -> JobResult:
    os.fork()
    return DONE


def leaves_a_thread(job: ToolJob) -> JobResult:
    threading.Thread(target=threading.Event().wait, name="straggler", daemon=True).start()
    return DONE


def leaves_a_child(job: ToolJob) -> JobResult:
    subprocess.Popen(["sleep", "60"])
    return DONE


def _nested() -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    return value


def answers_deeply(job: ToolJob) -> JobResult:
    return JobResult(success=True, output=_nested())


def fails_deeply(job: ToolJob) -> JobResult:
    return JobResult(success=False, error=_nested())


def answers_itself(job: ToolJob) -> JobResult:
    value: list[Any] = []
    value.append(value)
    return JobResult(success=True, output=value)


def answers_a_generator(job: ToolJob) -> JobResult:
    return JobResult(success=True, output=(number for number in range(3)))


def answers_much(job: ToolJob) -> JobResult:
    return JobResult(success=True, output="x" * 4_000_000)


def closes_the_streams(job: ToolJob) -> JobResult:
    for stream in (0, 1, 2):
        os.close(stream)
    return DONE


async def changes_the_surroundings(job: ToolJob) -> JobResult:
    os.chdir("/")
    os.umask(0)
    os.environ["HOSTILE"] = "yes"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return DONE
