"""Libraries that read clocks: in a processor they see virtual time, however they got hold of the clock."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from benchmarks.libraries.rows.at_work import done, output_of

from job_harness import JobHarness, ToolJob

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def test_tenacity(job_harness: JobHarness) -> None:
    tenacity = pytest.importorskip("tenacity")

    async def work(job: ToolJob):
        tries = 0
        began = time.monotonic()

        @tenacity.retry(stop=tenacity.stop_after_delay(120), wait=tenacity.wait_fixed(10), reraise=True)
        async def ask() -> None:
            nonlocal tries
            tries += 1
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await ask()
        return done([tries, time.monotonic() - began])

    assert output_of(job_harness, work) == [13, 120]

    def work_plainly(job: ToolJob):
        began = time.monotonic()
        for attempt in tenacity.Retrying(stop=tenacity.stop_after_delay(60), wait=tenacity.wait_fixed(10)):
            with attempt:
                if time.monotonic() - began < 45:
                    raise ConnectionError
        return done(time.monotonic() - began)

    assert output_of(job_harness, work_plainly) == 50


def test_backoff(job_harness: JobHarness) -> None:
    backoff = pytest.importorskip("backoff")

    async def work(job: ToolJob):
        tries = 0

        @backoff.on_exception(backoff.constant, ConnectionError, interval=10, jitter=None, max_time=100)
        async def ask() -> None:
            nonlocal tries
            tries += 1
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await ask()
        return done(tries)

    assert output_of(job_harness, work) == 11


def test_cachetools(job_harness: JobHarness) -> None:
    cachetools = pytest.importorskip("cachetools")
    kept = cachetools.TTLCache(10, 60)  # Its timer is a default argument, bound when the library was imported.
    kept["made outside"] = 1

    async def work(job: ToolJob):
        kept["a"] = 1
        await asyncio.sleep(59)
        before = sorted(kept)
        await asyncio.sleep(2)
        return done([before, sorted(kept)])

    before, after = output_of(job_harness, work)
    assert ("a" in before, after) == (True, [])


def test_pyjwt(job_harness: JobHarness) -> None:
    jwt = pytest.importorskip("jwt")
    key = "k" * 32

    async def work(job: ToolJob):
        now = datetime.now(UTC)
        token = jwt.encode({"exp": now + timedelta(minutes=5), "iat": now}, key, "HS256")
        await asyncio.sleep(299)
        jwt.decode(token, key, ["HS256"])
        await asyncio.sleep(2)
        with pytest.raises(jwt.ExpiredSignatureError):
            jwt.decode(token, key, ["HS256"])
        return done(now.isoformat())

    assert output_of(job_harness, work) == NEW_YEAR.isoformat()


def test_pendulum_and_arrow(job_harness: JobHarness) -> None:
    pendulum, arrow = pytest.importorskip("pendulum"), pytest.importorskip("arrow")

    def work(job: ToolJob):
        time.sleep(60)
        return done([pendulum.now("UTC").isoformat(), arrow.utcnow().isoformat()])

    pendulum_now, arrow_now = output_of(job_harness, work)
    assert datetime.fromisoformat(pendulum_now) == datetime.fromisoformat(arrow_now) == NEW_YEAR + timedelta(minutes=1)


def test_structlog(job_harness: JobHarness) -> None:
    structlog = pytest.importorskip("structlog")

    async def work(job: ToolJob):
        written: list[dict[str, str]] = []
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        stamp(None, "info", entry := {})
        written.append(entry)
        return done(written)

    ((entry,)) = output_of(job_harness, work)
    assert entry["timestamp"].startswith("2026-01-01T00:00:00")


def test_anyio(job_harness: JobHarness) -> None:
    anyio = pytest.importorskip("anyio")
    to_thread = pytest.importorskip("anyio.to_thread")

    async def work(job: ToolJob):
        began = time.monotonic()
        with anyio.move_on_after(30):
            await anyio.sleep(60)
        await to_thread.run_sync(time.sleep, 30)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 40)
            group.start_soon(to_thread.run_sync, time.sleep, 20)
        return done(time.monotonic() - began)

    assert output_of(job_harness, work) == 100


def test_aiofiles(job_harness: JobHarness, tmp_path: Path) -> None:
    aiofiles = pytest.importorskip("aiofiles")

    async def work(job: ToolJob):
        async with asyncio.timeout(1), aiofiles.open(tmp_path / "a.txt", "w") as file:
            for number in range(100):
                await file.write(f"{number}\n")
        await asyncio.sleep(300)
        async with aiofiles.open(tmp_path / "a.txt") as file:
            return done(len(await file.readlines()))

    assert output_of(job_harness, work) == 100


def test_freezegun(job_harness: JobHarness) -> None:
    freezegun = pytest.importorskip("freezegun")

    async def work(job: ToolJob):
        began = time.time()
        await asyncio.sleep(300)
        return done([time.time() - began, datetime.now(UTC).isoformat()])

    with freezegun.freeze_time("2030-06-01", real_asyncio=True):
        assert output_of(job_harness, work, warm=True) == [0, "2030-06-01T00:00:00+00:00"]


def test_time_machine(job_harness: JobHarness) -> None:
    time_machine = pytest.importorskip("time_machine")

    async def work(job: ToolJob):
        began = time.monotonic()
        await asyncio.sleep(300)
        return done([time.time(), time.monotonic() - began])

    with time_machine.travel(datetime(2030, 6, 1, tzinfo=UTC), tick=False):
        travelled = time.time()
        assert output_of(job_harness, work) == [travelled, 300]
    assert time.time() < travelled
    job_harness.register("after", work)
    job = job_harness.enqueue("after")
    job_harness.run_until_idle()
    assert job.output == [(NEW_YEAR + timedelta(minutes=10)).timestamp(), 300]
