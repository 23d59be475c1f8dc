"""A connection belongs to the event loop that opened it: a processor that uses one of the test's is told so."""

from __future__ import annotations

import asyncio
import socket

import pytest

from job_harness import JobHarness, JobResult
from job_harness.errors import Hung
from job_harness.subjects.processors import ToolJob


def test_a_processor_that_uses_a_connection_of_the_tests_loop_is_refused_and_never_retried() -> None:
    of_test, (here, there) = asyncio.new_event_loop(), socket.socketpair()
    transport, _ = of_test.run_until_complete(of_test.create_connection(asyncio.Protocol, sock=here))
    attempts: list[int] = []

    async def ask(job: ToolJob) -> JobResult:
        attempts.append(job.attempts)
        transport.write(b"?")
        return JobResult(success=True)

    with JobHarness() as jobs:
        jobs.register("ask", ask)
        jobs.enqueue("ask")
        with pytest.raises(Hung, match="another event loop has opened"):
            jobs.run_until_idle()
    transport.abort()
    of_test.run_until_complete(asyncio.sleep(0))
    of_test.close()
    there.close()
    assert attempts == [1]
