"""Right designs, each with Python alone."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from job_harness import JobHarness, JobResult, NonRetryableError, ToolJob, step

from .conftest import Outside

Play = Callable[..., None]
DONE = JobResult(success=True)


def test_a_key_from_the_input(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        await asyncio.sleep(1)
        outside.charge(job.input)
        await asyncio.sleep(1)
        return DONE

    play(work, 1, 2)


def test_a_key_from_the_job(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        outside.charge(job.id)
        await asyncio.sleep(1)
        return DONE

    play(work)


def test_a_key_that_is_kept_before_it_is_used(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        key = outside.rows.setdefault(job.id, str(uuid.uuid4()))
        await asyncio.sleep(1)
        outside.charge(key)
        return DONE

    play(work)


def test_a_secret_that_is_kept_before_it_is_used(play: Play, outside: Outside) -> None:
    def work(job: ToolJob) -> JobResult:
        key = outside.rows.setdefault(job.id, secrets.token_hex())
        time.sleep(1)
        outside.charge(key)
        return DONE

    play(work)


def test_a_plain_function(play: Play, outside: Outside) -> None:
    def work(job: ToolJob) -> JobResult:
        time.sleep(30)
        outside.charge(job.id)
        time.sleep(30)
        return DONE

    play(work, 1, 2)


def test_what_a_repetition_does_not_change(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        outside.put(job.input)
        await asyncio.sleep(1)
        outside.put(f"{job.input} again")
        return DONE

    play(work, 1, 2)


def test_a_batch_that_resumes(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        for item in range(4):
            if (job.id, item) not in outside.rows:
                outside.charge(f"{job.id} {item}")
                outside.rows[job.id, item] = True
            await asyncio.sleep(1)
        return DONE

    play(work)


def test_named_steps(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        await step("before")
        outside.charge(job.id)
        await step("after")
        return DONE

    play(work)


def test_a_wait_with_jitter(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        for attempt in range(3):
            await asyncio.sleep(2**attempt * random.uniform(0.5, 1.5))
        outside.charge(job.id)
        return DONE

    play(work, 1, 2)


def test_a_plain_wait_with_jitter(play: Play, outside: Outside) -> None:
    def work(job: ToolJob) -> JobResult:
        time.sleep(random.random() * 2)
        outside.charge(job.id)
        return DONE

    play(work)


def test_a_generator_of_its_own(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        await asyncio.sleep(random.Random().random())
        outside.charge(job.id)
        return DONE

    play(work)


def test_a_retry_of_its_own(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        for attempt in range(3):
            with contextlib.suppress(ConnectionError):
                if attempt < 2:
                    raise ConnectionError("not yet")
                outside.charge(job.id)
            await asyncio.sleep(1)
        return DONE

    play(work)


def test_an_attempt_that_fails_first(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        if job.attempts == 1:
            raise ConnectionError("the service is down")
        outside.charge(job.id)
        return DONE

    play(work)


def test_a_job_that_is_refused_for_good(job_harness: JobHarness, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        outside.charge(job.id)
        await asyncio.sleep(1)
        raise NonRetryableError("such an order cannot be sent")

    job_harness.register("work", work)
    job = job_harness.enqueue("work")
    job_harness.run_until_idle()
    assert job.status == "FAILED"


def test_a_timeout_that_is_met(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        async with asyncio.timeout(30):
            await asyncio.sleep(1)
        outside.charge(job.id)
        return DONE

    play(work)


def test_a_timeout_that_is_caught(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(30)
        outside.charge(job.id)
        return DONE

    play(work)


def test_a_task_group(play: Play, outside: Outside) -> None:
    async def item(key: str) -> None:
        await asyncio.sleep(1)
        outside.charge(key)

    async def work(job: ToolJob) -> JobResult:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(item(f"{job.id} {number}"))
        return DONE

    play(work)


def test_gathered_tasks(play: Play, outside: Outside) -> None:
    async def item(key: str) -> None:
        await asyncio.sleep(1)
        outside.charge(key)

    async def work(job: ToolJob) -> JobResult:
        await asyncio.gather(*(item(f"{job.id} {number}") for number in range(3)))
        return DONE

    play(work)


def test_a_lock_of_its_module(play: Play, outside: Outside) -> None:
    lock = asyncio.Lock()

    async def work(job: ToolJob) -> JobResult:
        async with lock:
            await asyncio.sleep(1)
            outside.charge(job.id)
        return DONE

    play(work, 1, 2, 3)


def test_a_semaphore_of_its_module(play: Play, outside: Outside) -> None:
    permits = asyncio.Semaphore(2)

    async def work(job: ToolJob) -> JobResult:
        async with permits:
            await asyncio.sleep(1)
            outside.charge(job.id)
        return DONE

    play(work, 1, 2, 3)


def test_a_lock_between_threads(play: Play, outside: Outside) -> None:
    lock = threading.Lock()

    def work(job: ToolJob) -> JobResult:
        with lock:
            outside.charge(job.id)
        time.sleep(1)
        return DONE

    play(work, 1, 2)


def test_a_queue_of_its_own(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        queue: asyncio.Queue[str] = asyncio.Queue()

        async def drain() -> None:
            for _ in range(3):
                outside.charge(await queue.get())

        draining = asyncio.create_task(drain())
        for number in range(3):
            queue.put_nowait(f"{job.id} {number}")
            await asyncio.sleep(1)
        await draining
        return DONE

    play(work)


def test_work_on_a_thread(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        await asyncio.to_thread(time.sleep, 1)
        outside.charge(job.id)
        return DONE

    play(work)


def test_a_pool_of_threads(play: Play, outside: Outside) -> None:
    def work(job: ToolJob) -> JobResult:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: time.sleep(1), range(3)))
        outside.charge(job.id)
        return DONE

    play(work)


def test_cleaning_up(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        outside.rows["open"] = job.id
        try:
            await asyncio.sleep(1)
            outside.charge(job.id)
        finally:
            outside.rows.pop("open", None)
        return DONE

    play(work)


def test_stopping_when_cancelled(play: Play, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            outside.rows["cancelled"] = job.id
            raise
        outside.charge(job.id)
        return DONE

    play(work)


def test_a_file_that_is_replaced(play: Play, outside: Outside, tmp_path: Path) -> None:
    def work(job: ToolJob) -> JobResult:
        part = tmp_path / f"{job.id}.part"
        part.write_text("whole")
        part.replace(tmp_path / job.id)
        outside.charge(job.id)
        return DONE

    play(work, 1, 2)


def test_a_row_and_its_mark_in_one_transaction(play: Play, outside: Outside, tmp_path: Path) -> None:
    file = tmp_path / "orders.db"
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE orders (id TEXT PRIMARY KEY)")

    def work(job: ToolJob) -> JobResult:
        with contextlib.closing(sqlite3.connect(file)) as database, database:
            database.execute("INSERT OR IGNORE INTO orders VALUES (?)", [job.id])
        outside.charge(job.id)
        return DONE

    play(work, 1, 2)


def test_an_outbox(play: Play, outside: Outside, job_harness: JobHarness) -> None:
    async def send(job: ToolJob) -> JobResult:
        await asyncio.sleep(1)
        outside.charge(job.input)
        return DONE

    async def work(job: ToolJob) -> JobResult:
        await asyncio.sleep(1)
        job_harness.enqueue("send", job.id, unique_key=job.id)
        return DONE

    job_harness.register("send", send)
    play(work)


def test_a_balance_that_is_set_by_what_was_read(play: Play, outside: Outside) -> None:
    outside.rows["balance"] = (0, 0)

    async def work(job: ToolJob) -> JobResult:
        while True:
            version, balance = outside.rows["balance"]
            await asyncio.sleep(1)
            if outside.rows["balance"][0] == version:
                outside.rows["balance"] = (version + 1, balance)
                break
        outside.charge(job.id)
        return DONE

    play(work, 1, 2)


def test_a_check_after_every_event(play: Play, outside: Outside, job_harness: JobHarness) -> None:
    job_harness.always(lambda harness: len(harness.effects("charged")) <= 2)
    test_a_key_from_the_job(play, outside)


def test_priorities_and_delays(job_harness: JobHarness, outside: Outside) -> None:
    async def work(job: ToolJob) -> JobResult:
        await asyncio.sleep(1)
        outside.charge(job.id)
        return DONE

    job_harness.register("work", work)
    jobs: list[Any] = [job_harness.enqueue("work", priority=number) for number in range(3)]
    job_harness.run_until_idle()
    assert {job.status for job in jobs} == {"COMPLETED"}
