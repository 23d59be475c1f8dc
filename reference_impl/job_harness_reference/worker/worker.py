"""Takes due jobs from a store and runs them. Polls, is woken, drains; all its tasks are its own.

Time comes from the event loop alone, so that a worker runs on a loop of virtual time unchanged.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

from job_harness_reference.clock import Jitter
from job_harness_reference.config import Config
from job_harness_reference.errors import QueueError, UnknownToolError, WorkersDisabledError
from job_harness_reference.models import Claim, JobProcessor
from job_harness_reference.registry import Registry
from job_harness_reference.store import Store
from job_harness_reference.worker.attempt import Attempt, Ending, Released
from job_harness_reference.worker.execution import Execution, RunBlocking, run_on_thread
from job_harness_reference.worker.journal import Journal
from job_harness_reference.worker.lease import Lease
from job_harness_reference.worker.settlement import Outcome, Settlement
from job_harness_reference.worker.verdict import Failed, describe_error

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_SETTLE_ON_STOP_SECONDS = 10.0
_MOST_ABANDONED = 64
"""Processors that ignore their cancellation hold memory and threads; a worker with more of them stops."""


class TooManyAbandonedError(QueueError):
    """Too many processors ignored their cancellation: the worker stopped, restart the process."""


class Worker:
    """Runs jobs with `PGBOSS_BATCH_SIZE` slots. Claims only what it can start at once."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        config: Config,
        name: str,
        jitter: Jitter,
        tools: Sequence[str] | None = None,
        wakeups: AsyncIterator[object] | None = None,
        run_blocking: RunBlocking = run_on_thread,
    ) -> None:
        """Serve `tools`, or every registered one. Each item of `wakeups` makes the worker look for jobs.

        Raises `ConfigurationError` where a tool has no processor.
        """
        self.name = name
        self._store = store
        self._registry = registry
        self._config = config
        self._jitter = jitter
        self._tools = tuple(registry.get_registered_tools() if tools is None else tools)
        registry.require_tools(self._tools)
        self._wakeups = wakeups
        self._run_blocking = run_blocking
        self._journal = Journal(name)
        self._settlement = Settlement(store, config=config, jitter=jitter, journal=self._journal)
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._patience: asyncio.Timeout | None = None
        """The limit of the claim under way: none, until the worker is told to stop."""
        self._grace_ends: float | None = None
        """When running jobs are released, by the loop's time, once the worker was told to stop."""
        self._running: dict[asyncio.Task[None], Attempt] = {}
        self._abandoned: list[Execution] = []
        self._counts: Counter[str] = Counter()

    @property
    def busy(self) -> int:
        """How many jobs are being run."""
        return len(self._running)

    @property
    def counts(self) -> dict[str, int]:
        """What became of the jobs so far, by outcome."""
        return dict(self._counts)

    @property
    def abandoned(self) -> tuple[str, ...]:
        """The ids of jobs whose processor was told to stop and still runs."""
        self._abandoned = [execution for execution in self._abandoned if execution.alive]
        return tuple(execution.job.id for execution in self._abandoned)

    def stop(self) -> None:
        """Claim no more, now and later; `run` ends once the running jobs have ended or were released."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop` is called. Cancelling it releases the running jobs at once.

        Raises `WorkersDisabledError` unless `USE_PGBOSS_WORKERS` is exactly `true`;
        `TooManyAbandonedError`.
        """
        self._require_enabled()
        self._journal.note("worker.started", tools=",".join(self._tools), slots=self._config.pgboss_batch_size)
        listening = self._start_listening()
        hurrying = asyncio.create_task(self._hurry(), name=f"end of the claims of {self.name}")
        try:
            await self._work()
            await self._end(listening, grace_seconds=self._grace_left())
        except asyncio.CancelledError:
            await self._end(listening, grace_seconds=0.0)
            raise
        finally:
            hurrying.cancel()
        self._check_abandoned()

    async def run_once(self) -> dict[str, int]:
        """Claim once, run what was claimed to its end, and count the outcomes.

        Raises `WorkersDisabledError`, and whatever the store raises on the claim.
        """
        self._require_enabled()
        before = Counter(self._counts)
        try:
            await self._claim()
            await self._join(within_seconds=None)
        except asyncio.CancelledError:
            await self._drain(grace_seconds=0.0)
            raise
        return dict(self._counts - before)

    def _require_enabled(self) -> None:
        reason = self._config.workers_off_reason
        if reason is not None:
            raise WorkersDisabledError(reason)

    async def _work(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopping.is_set() and len(self.abandoned) <= _MOST_ABANDONED:
            self._wake.clear()
            try:
                await self._claim()
            except Exception as error:  # noqa: BLE001 - drivers raise many kinds; the worker outlives them all
                self._journal.warn("claim.failed", error=describe_error(error), retry_in=f"{pause:g}s")
                await self._pause(pause * (1 + self._jitter()))
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                pause = _FIRST_PAUSE_SECONDS
                await self._rest()

    async def _claim(self) -> None:
        """Fill the free slots. Ends without asking where none is free."""
        free = self._config.pgboss_batch_size - len(self._running)
        if free <= 0 or self._stopping.is_set():
            return
        asked_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(None) as self._patience:
                claims = await self._store.claim(worker=self.name, tools=self._tools, limit=free)
        finally:
            self._patience = None
        for claim in claims:
            lease = Lease(claim, asked_at=asked_at, longest=self._config.lease)
            self._start(claim, lease)

    async def _hurry(self) -> None:
        """At the end, wait for the answer to a claim under way as long as for running jobs, and no longer."""
        await self._stopping.wait()
        self._grace_ends = asyncio.get_running_loop().time() + self._config.worker_shutdown_grace_seconds
        if self._patience is not None:
            self._patience.reschedule(self._grace_ends)

    def _grace_left(self) -> float:
        """Tell how long running jobs may still go on: a claim that was not answered has used some of it."""
        if self._grace_ends is None:
            return self._config.worker_shutdown_grace_seconds
        return max(0.0, self._grace_ends - asyncio.get_running_loop().time())

    def _start(self, claim: Claim, lease: Lease) -> None:
        attempt = Attempt(
            claim,
            lease,
            store=self._store,
            config=self._config,
            journal=self._journal,
            run_blocking=self._run_blocking,
            on_abandoned=self._abandoned.append,
        )
        task = asyncio.create_task(self._attend(attempt), name=f"attempt {claim.job.id}")
        self._running[task] = attempt
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._journal.alarm("attempt.broken", error=describe_error(error))

    async def _attend(self, attempt: Attempt) -> None:
        ending = await self._ending(attempt)
        outcome = await self._settlement.write_ending(attempt.claim, ending, lease=attempt.lease)
        self._counts[outcome.value] += 1

    async def _ending(self, attempt: Attempt) -> Ending:
        """Run one job. Whatever is wrong with it is its own failure and harms no neighbour."""
        if self._stopping.is_set() or attempt.too_late_to_start():
            return Released()
        try:
            processor = self._find_processor(attempt.claim)
            return await attempt.run(processor)
        except Exception as error:  # noqa: BLE001 - a malformed row may break anything that reads it
            return Failed(describe_error(error))

    def _find_processor(self, claim: Claim) -> JobProcessor:
        if not isinstance(claim.job.tool_slug, str):
            raise UnknownToolError(f"The row names no tool: toolSlug is {claim.job.tool_slug!r}.")
        return self._registry.get_processor(claim.job.tool_slug)

    async def _rest(self) -> None:
        """Wait for a free slot, a wake-up, the end, or the next poll."""
        full = len(self._running) >= self._config.pgboss_batch_size
        try:
            async with asyncio.timeout(None if full else self._config.pgboss_polling_interval):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _pause(self, seconds: float) -> None:
        """Wait; only the end comes in between."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _start_listening(self) -> asyncio.Task[None] | None:
        if self._wakeups is None:
            return None
        return asyncio.create_task(self._listen(self._wakeups), name=f"wake-ups of {self.name}")

    async def _listen(self, wakeups: AsyncIterator[object]) -> None:
        try:
            async for _ in wakeups:
                self._wake.set()
        except Exception as error:  # noqa: BLE001 - without wake-ups the worker polls
            self._journal.warn("wakeups.failed", error=describe_error(error), effect="polling only")

    async def _end(self, listening: asyncio.Task[None] | None, *, grace_seconds: float) -> None:
        self.stop()
        await self._drain(grace_seconds=grace_seconds)
        if listening is not None:
            listening.cancel()
            await asyncio.wait((listening,), timeout=_SETTLE_ON_STOP_SECONDS)
        counts = ",".join(f"{outcome}:{count}" for outcome, count in sorted(self._counts.items()))
        self._journal.note("worker.stopped", outcomes=counts or "none")

    async def _drain(self, *, grace_seconds: float) -> None:
        """Let the running jobs end, then release them, then leave what is left to its lease."""
        if self._running:
            self._journal.note("worker.draining", running=len(self._running), grace=f"{grace_seconds:g}s")
        await self._join(within_seconds=grace_seconds)
        for attempt in self._running.values():
            attempt.ask_release()
        await self._join(within_seconds=self._config.processor_cancel_grace_seconds + _SETTLE_ON_STOP_SECONDS)
        for task, attempt in tuple(self._running.items()):
            self._journal.alarm(
                "job.unsettled", claim=attempt.claim, why="the worker stopped before the store answered"
            )
            self._counts[Outcome.UNSETTLED.value] += 1
            task.cancel()
        await self._join(within_seconds=_SETTLE_ON_STOP_SECONDS)

    async def _join(self, *, within_seconds: float | None) -> None:
        tasks = tuple(self._running)
        if tasks:
            await asyncio.wait(tasks, timeout=within_seconds)
            await asyncio.sleep(0)  # Lets the tasks' own callbacks take them off the list.

    def _check_abandoned(self) -> None:
        if len(self.abandoned) > _MOST_ABANDONED:
            raise TooManyAbandonedError(
                f"{len(self.abandoned)} processors ignored their cancellation and still run, first job "
                f"{self.abandoned[0]}: restart the process, and let those processors end when cancelled."
            )
