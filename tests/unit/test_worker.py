"""The worker on a loop of virtual time, over the memory store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from job_harness_reference.config import Config
from job_harness_reference.errors import ConfigurationError, WorkersDisabledError
from job_harness_reference.models import (
    Claim,
    JobProcessor,
    JobResult,
    JsonValue,
    NewJob,
    NonRetryableError,
    ToolJob,
    ToolJobStatus,
)
from job_harness_reference.registry import Registry
from job_harness_reference.store.memory import MemoryStore
from job_harness_reference.worker import Worker

T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)
TIMEOUT = 600.0
GRACE = 5.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        selector: Any = self._selector  # type: ignore[attr-defined]
        self._poll = selector.select
        selector.select = self._jump

    def time(self) -> float:
        return self._now

    def _jump(self, timeout: float | None) -> Any:
        assert timeout is not None, "every task waits for something that never comes"
        self._now += max(timeout, 0.0)
        return self._poll(0)


def simulate(scene: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scene)


def loop_time() -> float:
    return asyncio.get_running_loop().time()


class FaultyStore(MemoryStore):
    """A memory store whose verbs can be made to raise, hang or answer late."""

    def __init__(self) -> None:
        super().__init__(now=lambda: START + timedelta(seconds=loop_time()), jitter=lambda: 0.0)
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.after: dict[str, Callable[[], Awaitable[None]]] = {}
        self.calls: list[str] = []

    async def _around(self, verb: str, call: Awaitable[T]) -> T:
        self.calls.append(verb)
        try:
            if verb in self.before:
                await self.before[verb]()
        except BaseException:
            if asyncio.iscoroutine(call):
                call.close()
            raise
        answer = await call
        if verb in self.after:
            await self.after[verb]()
        return answer

    async def claim(self, *, worker: str, tools: Any, limit: int = 1) -> list[Claim]:
        return await self._around("claim", super().claim(worker=worker, tools=tools, limit=limit))

    async def heartbeat(self, claim: Claim) -> bool:
        return await self._around("heartbeat", super().heartbeat(claim))

    async def complete(self, claim: Claim, output: JsonValue) -> bool:
        return await self._around("complete", super().complete(claim, output))

    async def fail(self, claim: Claim, error: str, *, final: bool = False) -> ToolJobStatus | None:
        return await self._around("fail", super().fail(claim, error, final=final))

    async def release(self, claim: Claim) -> bool:
        return await self._around("release", super().release(claim))


class Scene:
    """A store, a registry and a worker."""

    def __init__(self, **settings: Any) -> None:
        self.store = FaultyStore()
        self.registry = Registry()
        self.config = Config(**{"use_pgboss_workers": "true", "processor_cancel_grace_seconds": GRACE, **settings})

    async def job(self, processor: JobProcessor, *, slug: str = "my-tool", **fields: Any) -> str:
        self.registry.register_processor(slug, processor)
        await self.store.register_tool(slug)
        number = len(self.store.tool_jobs) + 1
        new = NewJob(
            tool_slug=slug,
            input={"text": "Hello"},
            id=f"job-{number}",
            queue_id=f"00000000-0000-4000-8000-{number:012d}",
            **{"session_id": "s", "lease": self.config.lease, **fields},
        )
        return (await self.store.enqueue(new)).job.id

    def worker(self, **arguments: Any) -> Worker:
        return Worker(self.store, self.registry, config=self.config, name="w1", jitter=lambda: 0.0, **arguments)

    async def read(self, job_id: str) -> ToolJob:
        job = await self.store.get(job_id)
        assert job is not None
        return job


async def succeed(job: ToolJob) -> JobResult:
    return JobResult(success=True, output=job.input)


def raising(error: BaseException) -> JobProcessor:
    async def process(_job: ToolJob) -> JobResult:
        raise error

    return process


def returning(value: Any) -> JobProcessor:
    async def process(_job: ToolJob) -> JobResult:
        return value  # type: ignore[no-any-return]

    return process


def taking(seconds: float) -> JobProcessor:
    async def process(_job: ToolJob) -> JobResult:
        await asyncio.sleep(seconds)
        return JobResult(success=True, output=seconds)

    return process


async def ignore_cancellation(_job: ToolJob) -> JobResult:
    until = loop_time() + 10_000
    while loop_time() < until:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            continue
    return JobResult(success=True)


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def test_a_job_runs_once_and_completes_with_its_output() -> None:
    async def scene() -> None:
        s = Scene()
        job_id = await s.job(succeed)

        assert await s.worker().run_once() == {"completed": 1}
        job = await s.read(job_id)
        assert (job.status, job.output, job.error, job.attempts) == ("COMPLETED", {"text": "Hello"}, None, 1)
        assert await s.worker().run_once() == {}

    simulate(scene())


@pytest.mark.parametrize("value", [None, "", "TRUE", "1"])
def test_the_worker_refuses_to_start_unless_workers_are_enabled(value: str | None) -> None:
    async def scene() -> None:
        s = Scene(use_pgboss_workers=value)
        job_id = await s.job(succeed)
        with pytest.raises(WorkersDisabledError, match="Set USE_PGBOSS_WORKERS=true"):
            await s.worker().run()
        with pytest.raises(WorkersDisabledError):
            await s.worker().run_once()
        assert (await s.read(job_id)).status == "PENDING"

    simulate(scene())


def test_the_worker_refuses_a_tool_without_a_processor() -> None:
    async def scene() -> None:
        s = Scene()
        s.registry.register_processor("my-tool", succeed)
        with pytest.raises(ConfigurationError, match="did you mean 'my-tool'"):
            s.worker(tools=["my-tol"])

    simulate(scene())


@pytest.mark.parametrize(
    ("processor", "words"),
    [
        (raising(ValueError("no good")), "ValueError: no good"),
        (raising(ValueError()), "ValueError"),
        (raising(TimeoutError("the user's own")), "TimeoutError: the user's own"),
        (raising(SystemExit(3)), "SystemExit: 3"),
        (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
        (raising(asyncio.CancelledError()), "CancelledError"),
        (raising(GeneratorExit()), "GeneratorExit"),
        (raising(MuteError()), "its message cannot be read"),
        (raising(ValueError("a\x00b\ud800")), "ValueError: a"),
        (returning(None), "returned None"),
        (returning(["success"]), "of type list"),
        (returning({"success": True, "result": 1}), "the key 'result'"),
        (returning(JobResult(success=1)), "neither True nor False"),  # type: ignore[arg-type]
        (returning(JobResult(success=False)), "without saying why"),
        (returning(JobResult(success=False, error="no luck")), "no luck"),
        (returning(JobResult(success=True, output={"a": ["\x00"]})), "NUL"),
        (returning(JobResult(success=True, output="\ud800")), "surrogate"),
        (returning(JobResult(success=True, output=float("nan"))), "nan"),
        (returning(JobResult(success=True, output=b"bytes")), "bytes"),
        (returning(JobResult(success=True, output=cyclic())), "nested deeper"),
        (returning(JobResult(success=True, output="x" * 2000)), "JOB_OUTPUT_LIMIT_BYTES=1000"),
    ],
)
def test_any_failure_is_recorded_and_harms_no_bystander(processor: JobProcessor, words: str) -> None:
    async def scene() -> None:
        s = Scene(job_output_limit_bytes=1000)
        poisoned = await s.job(processor, slug="poisoned")
        bystander = await s.job(succeed)

        assert await s.worker().run_once() == {"completed": 1, "retried": 1}
        job = await s.read(poisoned)
        assert job.status == "PENDING"
        assert job.error
        assert words in job.error
        assert (await s.read(bystander)).status == "COMPLETED"

    simulate(scene())


@pytest.mark.parametrize(
    "processor",
    [
        raising(NonRetryableError("hopeless")),
        returning(JobResult(success=False, error="hopeless", retryable=False)),
    ],
)
def test_an_error_declared_final_fails_the_job_at_its_first_attempt(processor: JobProcessor) -> None:
    async def scene() -> None:
        s = Scene()
        job_id = await s.job(processor)

        assert await s.worker().run_once() == {"failed": 1}
        job = await s.read(job_id)
        assert (job.status, job.attempts) == ("FAILED", 1)

    simulate(scene())


def test_a_processor_that_left_the_registry_fails_its_job_by_name() -> None:
    async def scene() -> None:
        s = Scene()
        job_id = await s.job(succeed)
        bystander = await s.job(succeed, slug="other-tool")
        worker = s.worker()
        del s.registry._processors["my-tool"]

        assert await worker.run_once() == {"retried": 1, "completed": 1}
        assert "No processor is registered for the tool 'my-tool'" in ((await s.read(job_id)).error or "")
        assert (await s.read(bystander)).status == "COMPLETED"

    simulate(scene())


def test_a_processor_over_its_timeout_is_cancelled() -> None:
    async def scene() -> None:
        s = Scene()
        cancelled_at: list[float] = []

        async def endless(_job: ToolJob) -> JobResult:
            try:
                await asyncio.sleep(1e6)
            finally:
                cancelled_at.append(loop_time())
            raise AssertionError

        job_id = await s.job(endless)
        assert await s.worker().run_once() == {"retried": 1}
        assert cancelled_at == [TIMEOUT]
        assert "timed out after 600 s (JOB_TIMEOUT_MS=600000)" in ((await s.read(job_id)).error or "")

    simulate(scene())


def test_a_processor_just_within_its_timeout_completes() -> None:
    async def scene() -> None:
        s = Scene()
        await s.job(taking(TIMEOUT - 0.5))
        assert await s.worker().run_once() == {"completed": 1}

    simulate(scene())


def test_a_processor_that_ignores_its_cancellation_is_abandoned_and_settles_nothing() -> None:
    async def scene() -> None:
        s = Scene()
        job_id = await s.job(ignore_cancellation, max_attempts=1)
        worker = s.worker()

        assert await worker.run_once() == {"failed": 1}
        assert loop_time() == TIMEOUT + GRACE
        assert list(worker.abandoned) == [job_id]
        await asyncio.sleep(10_000)
        assert list(worker.abandoned) == []
        job = await s.read(job_id)
        assert job.status == "FAILED"
        assert "was abandoned" in (job.error or "")
        assert s.store.calls.count("complete") == 0

    simulate(scene())


def test_heartbeats_keep_the_lease_while_a_job_runs() -> None:
    async def scene() -> None:
        s = Scene(job_timeout_ms=100_000, job_expire_in_seconds=111)
        await s.job(taking(90))
        task = asyncio.create_task(s.worker().run_once())
        await asyncio.sleep(89)
        (row,) = await s.store.rows()
        assert row.lease_until is not None
        assert row.lease_until > START + timedelta(seconds=111 + 60)
        assert await task == {"completed": 1}

    simulate(scene())


def test_a_cancelled_job_loses_its_processor_at_the_next_heartbeat() -> None:
    async def scene() -> None:
        s = Scene()
        stopped_at: list[float] = []

        async def endless(_job: ToolJob) -> JobResult:
            try:
                await asyncio.sleep(1e6)
            finally:
                stopped_at.append(loop_time())
            raise AssertionError

        job_id = await s.job(endless)
        task = asyncio.create_task(s.worker().run_once())
        await asyncio.sleep(31)
        assert await s.store.cancel(job_id)

        assert await task == {"lost": 1}
        assert stopped_at == [60.0]
        assert (await s.read(job_id)).status == "CANCELLED"
        assert not {"complete", "fail", "release"} & set(s.store.calls)

    simulate(scene())


def test_a_processor_stops_when_its_lease_runs_out_unheard() -> None:
    async def scene() -> None:
        async def unreachable() -> None:
            raise ConnectionError("no database")

        s = Scene(job_timeout_ms=100_000, job_expire_in_seconds=110)
        await s.job(taking(1e6), lease=timedelta(seconds=50))
        s.store.before["heartbeat"] = unreachable

        assert await s.worker().run_once() == {"retried": 1}
        assert loop_time() == 50

    simulate(scene())


def test_a_claim_that_was_answered_late_is_extended_at_once() -> None:
    async def scene() -> None:
        async def answer_late() -> None:
            await asyncio.sleep(109)

        s = Scene(job_timeout_ms=100_000, job_expire_in_seconds=110)
        await s.job(taking(50), lease=timedelta(seconds=110))
        s.store.after["claim"] = answer_late

        assert await s.worker().run_once() == {"completed": 1}

    simulate(scene())


def test_one_heartbeat_that_is_never_answered_costs_no_lease() -> None:
    async def scene() -> None:
        async def hang_once() -> None:
            if s.store.calls.count("heartbeat") == 1:
                await asyncio.sleep(1e6)

        s = Scene(job_timeout_ms=100_000, job_expire_in_seconds=110)
        await s.job(taking(90), lease=timedelta(seconds=60))
        s.store.before["heartbeat"] = hang_once

        assert await s.worker().run_once() == {"completed": 1}

    simulate(scene())


def test_a_hanging_heartbeat_holds_up_neither_the_timeout_nor_the_end() -> None:
    async def scene() -> None:
        async def hang() -> None:
            await asyncio.sleep(1e6)

        s = Scene()
        await s.job(taking(45))
        s.store.before["heartbeat"] = hang

        assert await s.worker().run_once() == {"completed": 1}
        assert loop_time() == 45

    simulate(scene())


def test_settling_is_retried_while_the_database_is_away() -> None:
    async def scene() -> None:
        async def away() -> None:
            if loop_time() < 100:
                raise ConnectionError("no database")

        s = Scene()
        job_id = await s.job(succeed)
        s.store.before["complete"] = away

        assert await s.worker().run_once() == {"completed": 1}
        assert 100 <= loop_time() < 125
        assert (await s.read(job_id)).status == "COMPLETED"

    simulate(scene())


def test_settling_is_given_up_when_the_lease_is_over() -> None:
    async def scene() -> None:
        async def away() -> None:
            raise ConnectionError("no database")

        s = Scene()
        job_id = await s.job(succeed)
        s.store.before["complete"] = away

        assert await s.worker().run_once() == {"unsettled": 1}
        assert 600 < loop_time() <= s.config.lease.total_seconds()
        await asyncio.sleep(100)
        assert await s.store.expire() == [job_id]

    simulate(scene())


@pytest.mark.parametrize(
    ("processor", "verb", "outcome"),
    [
        (succeed, "complete", "completed"),
        (raising(ValueError("\x00")), "fail", "retried"),
        (raising(NonRetryableError("hopeless")), "fail", "failed"),
    ],
)
def test_what_was_settled_is_counted_as_that_though_the_reply_was_lost(
    processor: JobProcessor, verb: str, outcome: str
) -> None:
    async def scene() -> None:
        lost: list[bool] = []

        async def lose_once() -> None:
            if not lost:
                lost.append(True)
                raise ConnectionError("reply lost")

        s = Scene()
        await s.job(processor)
        s.store.after[verb] = lose_once

        assert await s.worker().run_once() == {outcome: 1}

    simulate(scene())


def test_a_worker_claims_no_more_than_it_can_start() -> None:
    async def scene() -> None:
        s = Scene(pgboss_batch_size=2)
        running: list[int] = []
        peak: list[int] = []

        async def watched(_job: ToolJob) -> JobResult:
            running.append(1)
            peak.append(len(running))
            await asyncio.sleep(TIMEOUT - 1)
            running.pop()
            return JobResult(success=True)

        for _ in range(6):
            await s.job(watched)
        worker = s.worker()
        task = asyncio.create_task(worker.run())
        while worker.counts.get("completed", 0) < 6:
            await asyncio.sleep(1)
            waiting = [row for row in await s.store.rows() if row.status == "PROCESSING"]
            assert len(waiting) <= 2
        worker.stop()
        await task
        assert max(peak) == 2

    simulate(scene())


def test_a_free_slot_is_filled_at_once_and_not_at_the_next_poll() -> None:
    async def scene() -> None:
        s = Scene(pgboss_batch_size=1, pgboss_polling_interval=50)
        a_second = taking(1)
        for _ in range(3):
            await s.job(a_second)
        worker = s.worker()
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(3.5)
        assert worker.counts == {"completed": 3}
        worker.stop()
        await task

    simulate(scene())


def test_a_job_is_found_by_the_next_poll() -> None:
    async def scene() -> None:
        s = Scene()
        await s.job(succeed, start_after=START + timedelta(seconds=3))
        worker = s.worker()
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(3.9)
        before = dict(worker.counts)
        await asyncio.sleep(0.2)
        assert before == {}
        assert worker.counts == {"completed": 1}
        worker.stop()
        await task

    simulate(scene())


def test_a_wake_up_comes_before_the_next_poll() -> None:
    async def scene() -> None:
        s = Scene(pgboss_polling_interval=1000)
        bell: asyncio.Queue[str] = asyncio.Queue()

        async def wakeups() -> AsyncIterator[str]:
            while True:
                yield await bell.get()

        s.registry.register_processor("my-tool", succeed)
        worker = s.worker(wakeups=wakeups())
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(10)
        await s.job(succeed)
        bell.put_nowait("my-tool")
        await asyncio.sleep(0.01)
        assert worker.counts == {"completed": 1}
        worker.stop()
        await task

    simulate(scene())


def test_polling_goes_on_when_wake_ups_break() -> None:
    async def scene() -> None:
        async def broken() -> AsyncIterator[str]:
            for wakeup in ("", "my-tool"):
                if wakeup:
                    raise ConnectionError("no LISTEN here any more")
                yield wakeup

        s = Scene()
        await s.job(succeed, start_after=START + timedelta(seconds=3))
        worker = s.worker(wakeups=broken())
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(5)
        assert worker.counts == {"completed": 1}
        worker.stop()
        await task

    simulate(scene())


def test_the_worker_outlives_a_database_that_is_away() -> None:
    async def scene() -> None:
        refused = [0]

        async def away() -> None:
            if loop_time() < 300:
                refused[0] += 1
                raise ConnectionError("no database")

        s = Scene()
        await s.job(succeed)
        s.store.before["claim"] = away
        worker = s.worker()
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(335)
        assert worker.counts == {"completed": 1}
        assert 10 < refused[0] < 20
        worker.stop()
        await task

    simulate(scene())


def test_a_stopped_worker_lets_running_jobs_finish() -> None:
    async def scene() -> None:
        s = Scene()
        await s.job(taking(15))
        worker = s.worker()
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(1)
        worker.stop()
        await task
        assert worker.counts == {"completed": 1}
        assert loop_time() == 15

    simulate(scene())


def test_a_job_that_outlasts_the_shutdown_grace_is_released_with_its_attempt() -> None:
    async def scene() -> None:
        s = Scene()
        job_id = await s.job(taking(500))
        worker = s.worker()
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(1)
        worker.stop()
        await task
        assert worker.counts == {"released": 1}
        assert loop_time() == 21
        job = await s.read(job_id)
        assert (job.status, job.attempts) == ("PENDING", 0)

    simulate(scene())


def test_heartbeats_go_on_during_the_drain() -> None:
    async def scene() -> None:
        s = Scene(worker_shutdown_grace_seconds=300)
        await s.job(taking(200))
        worker = s.worker()
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(1)
        worker.stop()
        await task
        assert worker.counts == {"completed": 1}
        assert s.store.calls.count("heartbeat") == 6

    simulate(scene())


def test_a_job_claimed_but_not_started_is_released() -> None:
    async def scene() -> None:
        s = Scene()
        runs: list[str] = []

        async def watched(job: ToolJob) -> JobResult:
            runs.append(job.id)
            return JobResult(success=True)

        job_id = await s.job(watched)
        worker = s.worker()

        async def stop_meanwhile() -> None:
            worker.stop()

        s.store.after["claim"] = stop_meanwhile
        await worker.run()
        assert worker.counts == {"released": 1}
        assert runs == []
        assert (await s.read(job_id)).attempts == 0

    simulate(scene())


def test_what_does_not_stop_at_the_end_of_a_shutdown_keeps_its_claim_and_nobody_runs_it_twice() -> None:
    async def scene() -> None:
        s = Scene()
        job_id = await s.job(ignore_cancellation)
        worker = s.worker()
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(1)
        worker.stop()
        await task
        assert (worker.counts, worker.abandoned) == ({"unsettled": 1}, (job_id,))
        assert (await s.read(job_id)).status == "PROCESSING"
        assert await s.store.claim(worker="w2", tools=["my-tool"]) == []

    simulate(scene())


@pytest.mark.parametrize(("takes", "outcomes"), [(1e6, {"released": 1}), (10, {"released": 2})])
def test_a_claim_that_is_not_answered_holds_up_a_shutdown_no_longer_than_a_job_may(
    takes: float, outcomes: dict[str, int]
) -> None:
    async def scene() -> None:
        async def answer_late() -> None:
            if s.store.calls.count("claim") == 2:
                await asyncio.sleep(takes)

        s = Scene(pgboss_batch_size=2)
        long = taking(500)
        await s.job(long)
        worker = s.worker()
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(1)
        s.store.after["claim"] = answer_late
        await s.job(long)
        await asyncio.sleep(2)
        worker.stop()
        await task
        assert worker.counts == outcomes
        assert loop_time() == 23
        assert len(asyncio.all_tasks()) == 1

    simulate(scene())


def test_cancelling_the_worker_releases_what_runs_at_once() -> None:
    async def scene() -> None:
        s = Scene()
        job_id = await s.job(taking(500))
        worker = s.worker()
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop_time() == 1
        assert (await s.read(job_id)).status == "PENDING"
        assert len(asyncio.all_tasks()) == 1

    simulate(scene())


def test_a_shutdown_ends_even_while_the_database_is_away() -> None:
    async def scene() -> None:
        async def away() -> None:
            raise ConnectionError("no database")

        s = Scene()
        await s.job(taking(500))
        s.store.before["release"] = away
        worker = s.worker()
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(1)
        worker.stop()
        await task
        assert worker.counts == {"unsettled": 1}
        assert loop_time() < 60
        assert len(asyncio.all_tasks()) == 1

    simulate(scene())


def test_a_success_that_comes_while_being_released_is_kept() -> None:
    async def scene() -> None:
        async def finish_when_cancelled(_job: ToolJob) -> JobResult:
            try:
                await asyncio.sleep(1e6)
            except asyncio.CancelledError:
                await asyncio.sleep(1)
            return JobResult(success=True, output="saved")

        s = Scene()
        job_id = await s.job(finish_when_cancelled)
        worker = s.worker()
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(1)
        worker.stop()
        await task
        assert worker.counts == {"completed": 1}
        assert (await s.read(job_id)).output == "saved"

    simulate(scene())
