"""The reference queue at work on virtual time: the real worker and the real maintenance over a store in memory.

Hides how both are paced: on their grids, and only where something is due. Also starts single
processors as the worker does, for callers that have a loop of their own.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import random
import re
import uuid
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias, TypeVar

from job_harness.core.faults import FaultPlan
from job_harness.core.invariants import Invariant, everything
from job_harness.core.model import (
    MINUTE,
    SECOND,
    Duration,
    Instant,
    JobId,
    Json,
    Settings,
    Status,
    format_duration,
    json_text,
)
from job_harness.core.port import Claim, JobRequest
from job_harness.core.run.context import Ended
from job_harness.core.run.live import LiveTest
from job_harness.core.run.observation import Observation
from job_harness.core.run.session import NO_FAULTS
from job_harness.core.sim import Boring, Choices, Clocks
from job_harness.core.sim.lifetime import Lifetime
from job_harness.core.sim.loop import VirtualLoop
from job_harness.engines.reference.application_store import (
    BEFORE_STARTING,
    LineStore,
    RecordedStore,
    StoreRows,
)
from job_harness.errors import UsageError
from job_harness_reference.config import Config, Contradiction, ContradictoryError
from job_harness_reference.errors import InvalidJsonError, MaintenanceError, QueueError
from job_harness_reference.json_values import decode, encode
from job_harness_reference.maintenance import run_maintenance
from job_harness_reference.models import JobProcessor, JobResult, NewJob, NonRetryableError, ToolJob, ToolJobStatus
from job_harness_reference.registry import Registry
from job_harness_reference.worker import RunBlocking, Worker
from job_harness_reference.worker.execution import Execution
from job_harness_reference.worker.verdict import NoResultError, Succeeded, judge, result_of

__all__ = [
    "BEFORE_STARTING", "Execution", "JobProcessor", "JobResult", "NoResultError", "NonRetryableError",
    "QueueError", "ReferenceApplication", "Registry", "RunBlocking", "StartUp", "ToolJob", "config_of", "is_too_long",
    "result_of",
]  # fmt: skip

T = TypeVar("T")
StartUp: TypeAlias = Callable[[Lifetime], Awaitable[None]]
"""What a worker does in each of its lives before it claims anything, within that life."""
OUTPUT_LIMIT: int = Config.job_output_limit_bytes
START = datetime(2026, 1, 1, tzinfo=UTC)
OTHER_STORES: Final = (
    "A queue on PostgreSQL refuses such a job when it is enqueued; one on Redis, as BullMQ's, takes it. To see what "
    "the processor does with it, run it without the queue: perform_job({tool!r}, ...)."
)
GUIDE = Settings(batch_size=5, heartbeat_interval=30 * SECOND)
"""The guide's settings as the reference worker follows them."""
_LONGEST_POLL_SECONDS = 3600.0
"""The worker is woken on its polling grid when something is due; its own polls in between would find nothing."""


def is_too_long(output: Json) -> bool:
    """Say whether the worker refuses an output, which is JSON, for its length."""
    return len(encode(output).encode()) > OUTPUT_LIMIT


def config_of(settings: Settings) -> Config:
    """Say the settings in the reference's words. Raises UsageError where they contradict each other."""
    try:
        return _config(settings)
    except ContradictoryError as error:
        problems = [_sentence(settings, problem) for problem in error.problems]
        raise UsageError(
            "the reference worker refuses these settings: " + "; ".join(problems), hint=_repair(settings)
        ) from None


_SETTING_OF: Mapping[str, tuple[str, Duration]] = {
    "job_timeout_ms": ("job_timeout", SECOND // 1000),
    "job_expire_in_seconds": ("lease", SECOND),
    "stuck_job_timeout_minutes": ("stuck_timeout", MINUTE),
    "job_max_attempts": ("max_attempts", 1),
    "job_retry_delay_seconds": ("retry_delay", SECOND),
    "job_retry_backoff": ("retry_backoff", 1),
    "job_retry_delay_max_seconds": ("retry_delay_max", SECOND),
    "job_retention_days": ("retention", 24 * 60 * MINUTE),
    "pgboss_batch_size": ("batch_size", 1),
    "pgboss_polling_interval": ("poll_interval", SECOND),
}
"""By name in the reference's configuration: the setting, and the unit that the reference counts it in."""


def _sentence(settings: Settings, problem: Contradiction) -> str:
    """Say what is wrong in the names of the settings; behind its first comma a contradiction repeats the values."""
    one, other = (_SETTING_OF.get(name.lower(), (name, 1))[0] for name in (problem.variable, problem.against))
    if not problem.against:
        return f"{one} is {problem.value}: it {problem.why}"
    both = " and ".join(f"{name} {format_duration(getattr(settings, name))}" for name in (one, other))
    why = re.split("[:;,]", problem.why)[0].replace(problem.against, other)
    return f"{both} contradict each other: {why}"


def _repair(settings: Settings) -> str:
    """Say what to set beside these settings: what one contradiction asks for may lead to the next."""
    changes: dict[str, Duration] = {}
    for _ in _SETTING_OF:
        try:
            _config(settings.changed(**changes))
        except ContradictoryError as error:
            for problem in [each for each in error.problems if each.against]:
                name, unit = _SETTING_OF[problem.variable.lower()]
                changes[name] = round(float(problem.accepted) * unit)
    told = ", ".join(f'{name}="{format_duration(value)}"' for name, value in changes.items())
    return f"Set {told}." if told else ""


@lru_cache(maxsize=64)
def _config(settings: Settings) -> Config:
    return Config(**config_values(settings))


@lru_cache(maxsize=64)
def _polling_rarely(config: Config) -> Config:
    return replace(config, pgboss_polling_interval=_LONGEST_POLL_SECONDS)


def config_values(settings: Settings) -> dict[str, Any]:
    """Return the settings by the names that they have in the reference's configuration."""
    return {
        "use_pgboss_workers": "true" if settings.workers_enabled else None,
        "job_timeout_ms": settings.job_timeout // 1000,
        "job_expire_in_seconds": settings.lease / SECOND,
        "stuck_job_timeout_minutes": settings.stuck_timeout / MINUTE,
        "job_max_attempts": settings.max_attempts,
        "job_retry_delay_seconds": settings.retry_delay / SECOND,
        "job_retry_backoff": settings.retry_backoff,
        "job_retry_delay_max_seconds": settings.retry_delay_max / SECOND,
        "job_retention_days": settings.retention / (24 * 60 * MINUTE),
        "pgboss_batch_size": settings.batch_size,
        "pgboss_polling_interval": settings.poll_interval / SECOND,
    }


class _MaintenanceCron:
    """The cron that calls maintenance: a process beside the worker, which comes back at once when it dies."""

    def __init__(
        self, store: RecordedStore, session: LiveTest, loop: VirtualLoop, pacer: Pacer, stuck_after: timedelta
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self._store = store
        self._session = session
        self._loop = loop
        self._pacer = pacer
        self._stuck_after = stuck_after

    def start(self) -> None:
        """Start it for the first time."""
        self._store.maintenance = self._session.carrier.process("maintenance", self._begin, on_severed=self._come_back)

    def _come_back(self) -> None:
        self._session.kernel.start(self._store.maintenance.actor)

    def _begin(self, life: Lifetime) -> None:
        self.task = life.context().run(self._loop.create_task, self._run(), name="maintenance")

    async def _run(self) -> None:
        async for _ in self._pacer:
            try:
                await run_maintenance(self._store, stuck_after=self._stuck_after)
            except MaintenanceError as error:
                if not all(isinstance(each, ConnectionError) for each in error.failures.values()):
                    raise
                # A message was lost: a cron job that failed is called again a period later.


class ReferenceApplication:
    """One worker and maintenance on a virtual loop, recorded and judged."""

    engine = "reference (memory)"
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        loop: VirtualLoop,
        *,
        run_blocking: RunBlocking,
        settings: Settings = GUIDE,
        seed: int = 0,
        start: datetime = START,
        invariants: Iterable[Invariant] = (),
        choices: Choices | None = None,
        faults: FaultPlan = NO_FAULTS,
    ) -> None:
        """Open an empty queue, judged by our invariants and by `invariants`. Retry delays are jittered by `seed`.

        Raises UsageError for settings that contradict each other, and for limits that the worker
        does not keep.
        """
        if settings.concurrency or settings.tool_concurrency:
            raise UsageError(
                "the worker of job_harness cannot limit how many jobs run at once over all workers",
                hint="Leave concurrency and tool_concurrency out; batch_size=1 lets its worker run one job at a time.",
            )
        self.settings = settings
        self.start = start
        self.registry = Registry()
        self._loop = loop
        self._config = config_of(settings)
        self._run_blocking = run_blocking
        self._jitter = random.Random(seed + 1).random
        observation = Observation(
            lambda clocks: self._opened(clocks, seed),
            settings=settings,
            invariants=lambda rows: (*everything(), *invariants),
        )
        self._memory.live = observation.job_index.live
        observation.job_index.line = self._memory
        self.session = LiveTest(observation, loop, choices=choices or Boring(), faults=faults)
        self._board = observation.job_index
        self.store = RecordedStore(self._memory, self.session, start=start, watcher=self)
        self._polls = Pacer(loop, interval=settings.poll_interval, due=self._next_claim)
        self._cron = Pacer(loop, interval=settings.cron_period, due=self._next_maintenance)
        self._start: StartUp | None = None
        self._worker: Worker | None = None
        self._working: asyncio.Task[None] | None = None
        self._maintenance = _MaintenanceCron(self.store, self.session, loop, self._cron, self._config.stuck_after)
        self._number = 0

    def _opened(self, clocks: Clocks, seed: int) -> StoreRows:
        self._memory = LineStore(now=lambda: self.moment(clocks.store()), jitter=random.Random(seed).random)
        return StoreRows(self._memory, start=self.start)

    # what the test does ---------------------------------------------------------------------------------------------

    def register(self, slug: str, processor: JobProcessor) -> None:
        """Let a processor serve a tool. Raises `ConfigurationError`."""
        self.registry.register_processor(slug, processor)
        at_once(self.store.register_tool(slug))

    def enqueue(self, request: JobRequest) -> JobId:
        """Accept a job; return the unfinished holder of its unique key instead, if there is one.

        Raises UsageError where JSON cannot hold the input.
        """
        settings = self.settings
        self._number += 1
        if request.work is not None:
            self.store.works[request.id] = request.work
        with telling_of_input(request):
            enqueued = at_once(
                self.store.enqueue(
                    NewJob(
                        tool_slug=request.tool,
                        input=request.input,
                        id=request.id,
                        queue_id=str(uuid.UUID(int=self._number)),
                        priority=request.priority,
                        max_attempts=request.max_attempts or settings.max_attempts,
                        start_after=None if request.start_after is None else self.moment(request.start_after),
                        unique_key=request.unique_key,
                        lease=_length(settings.lease),
                        retry_delay=_length(settings.retry_delay),
                        retry_backoff=settings.retry_backoff,
                        retry_delay_max=_length(settings.retry_delay_max),
                        retention=_length(settings.retention),
                    )
                )
            )
        return enqueued.job.id

    def cancel(self, job: JobId) -> bool:
        """Cancel a job. False: it is terminal or unknown."""
        return at_once(self.store.cancel(job))

    def retry(self, job: JobId) -> bool:
        """Open a new attempt budget for a failed or cancelled job."""
        return at_once(self.store.retry(job))

    def tool_job(self, slug: str, value: Json) -> ToolJob:
        """Make the job that a processor would receive, its input through JSON and back."""
        return sample_job(
            slug, through_any_json(slug, value), max_attempts=self.settings.max_attempts, moment=self._now()
        )

    def moment(self, at: Instant) -> datetime:
        """Return an instant of the run as a time of day."""
        return self.start + timedelta(microseconds=at)

    # what the worker does -------------------------------------------------------------------------------------------

    @property
    def allowance(self) -> int | None:
        """How many jobs the worker may still claim; None is any number."""
        return self.store.allowance

    def allow(self, jobs: int | None) -> None:
        """Let the worker claim this many jobs more, None for any number; it is started on the first call."""
        self.store.allowance = jobs
        self._begin_once()
        self.note_change()

    @property
    def only(self) -> Collection[JobId] | None:
        """The only jobs that may be claimed; None is any."""
        return self._memory.only

    @only.setter
    def only(self, jobs: Collection[JobId] | None) -> None:
        self._memory.only = jobs
        self.note_change()

    def crash(self, place: str) -> None:
        """Kill the worker where it stands; nothing of it goes on. A new one starts at once, under a new name."""
        self._begin_once()
        self.session.crash(place)

    def refuse_place(self, at: str) -> None:
        """Refuse none: the reference worker can die anywhere."""

    def refuse_redelivery(self) -> None:
        """Refuse nothing: a job can be handed out twice."""

    @property
    def abandoned(self) -> tuple[JobId, ...]:
        """The jobs whose processor was told to stop and still runs."""
        return () if self._worker is None else self._worker.abandoned

    def wake(self) -> None:
        """Let the worker look for jobs now instead of at its next poll."""
        self._polls.ring()

    @property
    def processing(self) -> bool:
        """Whether the worker is at work on a job."""
        return self._worker is not None and self._worker.busy > 0

    def due(self) -> bool:
        """Whether a job could be claimed now."""
        due = self._next_due()
        return due is not None and due <= self.session.clocks.now

    def claim_of(self, job: JobId, attempt: int) -> Claim | None:
        """Return the last claim of this attempt of a job."""
        return self.store.claims.get((job, attempt))

    def check(self) -> None:
        """Raise what ended the worker or the cron, where one of them ended."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    @property
    def unforkable(self) -> str:
        """Nothing: it is all in the memory of this process."""
        return ""

    def prepare_children(self) -> None:
        """Do nothing: a forked child has it all."""

    def forget_children(self) -> None:
        """Do nothing: no child uses what another one used."""

    def reopen(self) -> None:
        """Do nothing: what a forked child has is its own."""

    @property
    def ended(self) -> bool:
        """Whether the worker or the cron ended by itself."""
        return any(task.done() for task in self._tasks)

    def end(self) -> None:
        """Cancel worker and cron; their tasks end in the loop's next run."""
        for task in self._tasks:
            task.cancel()

    @property
    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in (self._working, self._maintenance.task) if task is not None]

    def _begin_once(self) -> None:
        if self._working is None:
            self._start_worker()
            self._maintenance.start()

    def _start_worker(self) -> None:
        self.session.start_worker(self._begin_worker, on_severed=self._start_worker)

    def start_with(self, start: StartUp) -> None:
        """Run this in each life of the worker before it claims anything. Raises UsageError once it is at work."""
        if self._start is not None or self._working is not None:
            why = "is set already" if self._start is not None else "comes too late: the worker is at work"
            raise UsageError(f"on_start {why}", hint="Call it once, before jobs are to run.")
        self._start = start

    async def _live(self, worker: Worker, life: Lifetime) -> None:
        if self._start is not None:
            await self._start(life)
        await worker.run()

    def _begin_worker(self, life: Lifetime) -> None:
        worker = self._worker = Worker(
            self.store,
            self.registry,
            config=_polling_rarely(self._config),
            name=life.name,
            jitter=self._jitter,
            wakeups=self._polls,
            run_blocking=self._run_blocking,
        )
        self._working = life.context().run(self._loop.create_task, self._live(worker, life), name=life.name)

    def _now(self) -> datetime:
        return self.moment(self.session.clocks.store())

    def note_change(self) -> None:
        """Look again when something is next due: a job may be due earlier now."""
        if self._working is None:
            return
        if self._loop.is_running() and not self._loop.is_in_this_thread():
            # A plain processor enqueues from its thread; what is due stays due when its worker dies.
            self._loop.call_soon_threadsafe(self._refresh, context=contextvars.Context())
        else:
            self._refresh()

    def _refresh(self) -> None:
        self._polls.refresh()
        self._cron.refresh()

    def _next_claim(self) -> Instant | None:
        return None if self.store.allowance == 0 else self._next_due()

    def _next_due(self) -> Instant | None:
        if self.only is None:
            return self._board.next_claim()
        waiting = [view for job in self.only if (view := self._board.live.get(job)) is not None]
        return min((view.start_after for view in waiting if view.status is Status.PENDING), default=None)

    def _next_maintenance(self) -> Instant | None:
        dues = [due for due in (self._board.next_expiry(), self._board.next_maintenance()) if due is not None]
        return min(dues, default=None)

    def unfinished(self) -> bool:
        """Whether a job may still be claimed, now or later: it waits, or its worker died."""
        live = self._board.live
        return bool(live) if self.only is None else any(job in live for job in self.only)


def through_json(value: Json) -> Any:
    """Return a value as it is after JSON and back. Raises `InvalidJsonError` where JSON cannot hold it."""
    return decode(encode(value))


def through_any_json(tool: str, value: Json) -> Any:
    """Return a value as it is after JSON and back, also one that PostgreSQL refuses and other stores take: a NUL.

    Raises UsageError where it is no JSON at all.
    """
    try:
        return through_json(value)
    except InvalidJsonError as error:
        if (text := json_text(value)) is None:
            raise UsageError(f"the input of {tool!r} is no JSON: {error}") from None
        return json.loads(text)


@contextmanager
def telling_of_input(request: JobRequest) -> Iterator[None]:
    """Raise UsageError where JSON cannot hold the input of a request."""
    try:
        yield
    except InvalidJsonError as error:
        raise UsageError(
            f"the input of {request.tool!r} cannot be stored: {error}",
            hint="" if json_text(request.input) is None else OTHER_STORES.format(tool=request.tool),
        ) from None


def sample_job(
    slug: str, value: Json, *, id: str = "job-0", attempt: int = 1, max_attempts: int = 3, moment: datetime = START
) -> ToolJob:
    """Make a job as a processor receives it, with an input that is taken as it is."""
    return ToolJob(
        id=id,
        tool_slug=slug,
        status=ToolJobStatus.PROCESSING,
        input=value,
        attempts=attempt,
        max_attempts=max_attempts,
        started_at=moment,
        created_at=moment,
        updated_at=moment,
    )


def at_once(verb: Coroutine[Any, Any, T] | Awaitable[T]) -> T:
    """Run a verb of a store that never suspends."""
    coroutine: Any = verb
    try:
        coroutine.send(None)
    except StopIteration as stop:
        answer: T = stop.value
        return answer
    raise AssertionError("a verb of the memory store suspended")


def _length(duration: Duration) -> timedelta:
    return timedelta(microseconds=duration)


class Pacer:
    """An endless asynchronous iterator that yields once for each tick with something to do."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, interval: Duration, due: Callable[[], Instant | None]
    ) -> None:
        """Ask `due` when there is next something to do, None for never."""
        self._loop = loop
        self._interval = interval
        self._due = due
        self._rung = asyncio.Event()
        self._handle: asyncio.TimerHandle | None = None
        self._tick: Instant | None = None
        self._last: Instant = -1
        self._context = contextvars.Context()
        """The process that made something due may die; the grid of time continues."""

    def __aiter__(self) -> Pacer:
        return self

    async def __anext__(self) -> None:
        await self._rung.wait()
        self._rung.clear()
        self.refresh()

    def refresh(self) -> None:
        """Look again when something is due."""
        due = self._due()
        tick = None if due is None else self._tick_of(due)
        if tick == self._tick:
            return
        if self._handle is not None:
            self._handle.cancel()
        self._tick = tick
        self._handle = None if tick is None else self._loop.call_at(tick / SECOND, self.ring, context=self._context)

    def ring(self) -> None:
        """Yield now, whatever the grid says."""
        self._last = now_of(self._loop)
        self._tick = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._rung.set()

    def _tick_of(self, due: Instant) -> Instant:
        after = max(due, now_of(self._loop), self._last + 1)
        return -(-after // self._interval) * self._interval


def now_of(loop: asyncio.AbstractEventLoop) -> Instant:
    """Read a virtual loop's time as an instant."""
    return round(loop.time() * SECOND)


def start_execution(
    processor: JobProcessor, job: ToolJob, *, on_end: Callable[[], None], run_blocking: RunBlocking
) -> Execution:
    """Start a processor on the running loop; nothing that it raises gets out."""
    return Execution(processor, job, on_end=on_end, run_blocking=run_blocking)


def ending_of(execution: Execution) -> Ended | None:
    """Return how it ended; None while it runs."""
    if execution.answer is None:
        return None
    verdict = judge(execution.answer)
    if isinstance(verdict, Succeeded):
        return Ended(success=True, output=verdict.output)
    return Ended(success=False, error=verdict.error, final=verdict.final)


def job_of(job: str, tool: str, *, input: Json, attempts: int, max_attempts: int, started_at: datetime) -> ToolJob:
    """Make the job that a processor receives, its input through JSON and back."""
    return ToolJob(
        id=job,
        tool_slug=tool,
        status=ToolJobStatus.PROCESSING,
        input=decode(encode(input)),
        attempts=attempts,
        max_attempts=max_attempts,
        started_at=started_at,
        created_at=started_at,
        updated_at=started_at,
    )
