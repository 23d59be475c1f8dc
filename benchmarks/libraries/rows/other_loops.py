"""Libraries that replace the loop, threads or sockets: bypassed, refused with the reason, or in real time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from benchmarks.libraries.rows.at_work import done, output_of

from job_harness import JobHarness, ToolJob

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def test_uvloop(job_harness: JobHarness) -> None:
    uvloop = pytest.importorskip("uvloop")
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    try:

        async def work(job: ToolJob):
            await asyncio.sleep(300)
            return done(type(asyncio.get_running_loop()).__module__.partition(".")[0])

        assert output_of(job_harness, work) == "job_harness"
        assert "event loop: uvloop is bypassed, coroutines run on a loop with virtual time" in job_harness.notes()
    finally:
        asyncio.set_event_loop_policy(before)


def test_trio(job_harness: JobHarness) -> None:
    anyio, _ = pytest.importorskip("anyio"), pytest.importorskip("trio")

    def work(job: ToolJob):
        async def main() -> float:
            began = time.perf_counter()
            await anyio.sleep(0.05)
            return time.perf_counter() - began

        return done([anyio.run(main, backend="trio"), asyncio.run(main())])

    output_of(job_harness, work)


GEVENT = """
from gevent import monkey
monkey.patch_all()
from job_harness import JobResult

def test_it(job_harness):
    job_harness.register("row", lambda job: JobResult(success=True))
"""


def test_gevent(tmp_path: Path) -> None:
    pytest.importorskip("gevent")
    (tmp_path / "test_gevent.py").write_text(GEVENT)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_gevent.py"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "gevent has replaced the threads of this process (gevent.monkey.patch_all)" in ended.stdout


def test_a_busy_wait(job_harness: JobHarness) -> None:
    async def work(job: ToolJob):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            pass
        return done()

    job_harness.register("busy", work)
    job = job_harness.enqueue("busy")
    job_harness.run_until_idle()
    assert job.status == "COMPLETED"
    assert job_harness.now - NEW_YEAR >= timedelta(seconds=5)
    assert any(note.startswith("blocking: ") for note in job_harness.notes())


def test_a_check_for_drifting_clocks(job_harness: JobHarness) -> None:
    async def work(job: ToolJob):
        offsets = set()
        for _ in range(10):
            offsets.add(round(time.time() - time.monotonic(), 3))
            await asyncio.sleep(30)
        return done(len(offsets))

    assert output_of(job_harness, work) == 1
