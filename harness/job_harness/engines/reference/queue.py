"""The verbs of the harness, asked of the reference queue's store, and between its rows and the harness's views.

Here are the queue over any store and the one on the store in memory. It knows no database.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, Protocol, TypeVar, overload

from job_harness.core.history import DONE, Outcome, done
from job_harness.core.model import Duration, Instant, JobId, JobView, Json, QueueState, Settings, Status
from job_harness.core.port import Capabilities, Claim, EngineClocks, JobRequest, Reply
from job_harness.core.sim import Point
from job_harness_reference.errors import InvalidJsonError, QueueError
from job_harness_reference.models import Claim as StoreClaim
from job_harness_reference.models import JobRow, NewJob, ToolJob, ToolJobStatus
from job_harness_reference.store.memory import MemoryStore
from job_harness_reference.store.memory_rows import MemorySnapshot
from job_harness_reference.store.protocol import Store

ORIGIN: Final = datetime(2030, 1, 1, tzinfo=UTC)
"""The instant 0 of every run, as the store sees it."""
_MICROSECOND: Final = timedelta(microseconds=1)
_ID_BYTES: Final = 16
_KEPT_BYTES: Final = 11
_STATUS: Final = {str(status): status for status in Status}
_QUEUE_STATE: Final = {str(state): state for state in QueueState}


def store_time(instant: Instant) -> datetime:
    """Return the store's timestamp of an instant."""
    return ORIGIN + timedelta(microseconds=instant)


@overload
def instant_of(timestamp: datetime, origin: datetime = ORIGIN) -> Instant: ...
@overload
def instant_of(timestamp: datetime | None, origin: datetime = ORIGIN) -> Instant | None: ...
def instant_of(timestamp: datetime | None, origin: datetime = ORIGIN) -> Instant | None:
    """Return the instant of a store's timestamp, in a run that began at `origin`."""
    return None if timestamp is None else (timestamp - origin) // _MICROSECOND


def length_of(duration: Duration) -> timedelta:
    """Return a duration as the store takes it."""
    return timedelta(microseconds=duration)


def queue_id_of(job: JobId, deleted_before: int = 0) -> str:
    """Return the UUID of a job's queue row: its id's bytes, so that queue rows sort as their jobs do.

    Of an id longer than 16 bytes the first 11 count for the order; a digest keeps any two apart. So
    it does a job and the ones of the same id that were deleted before it: ids of the store's own
    making do not come twice either.
    """
    raw = job.encode("utf-8", "surrogatepass")
    if deleted_before:
        raw += b"\0" * (_ID_BYTES - len(raw)) + str(deleted_before).encode()
    if len(raw) > _ID_BYTES:
        raw = raw[:_KEPT_BYTES] + hashlib.sha256(raw).digest()[: _ID_BYTES - _KEPT_BYTES]
    return str(uuid.UUID(bytes=raw.ljust(_ID_BYTES, b"\0")))


def new_job_of(request: JobRequest, settings: Settings, deleted_before: int = 0) -> NewJob:
    """Return what the store is asked to create; what the request leaves open comes from the settings.

    `deleted_before` counts the jobs of the same id that were deleted.
    """
    return NewJob(
        tool_slug=request.tool,
        input=request.input,
        id=request.id,
        queue_id=queue_id_of(request.id, deleted_before),
        priority=request.priority,
        max_attempts=request.max_attempts or settings.max_attempts,
        start_after=None if request.start_after is None else store_time(request.start_after),
        unique_key=request.unique_key,
        lease=length_of(settings.lease),
        retry_delay=length_of(settings.retry_delay),
        retry_backoff=settings.retry_backoff,
        retry_delay_max=length_of(settings.retry_delay_max),
        retention=length_of(settings.retention),
    )


def claim_of(claim: StoreClaim) -> Claim:
    """Return a claim as workers of the harness carry it."""
    return Claim(
        job=claim.job.id,
        attempt=claim.job.attempts,
        token=claim.token,
        worker=claim.worker,
        tool=claim.job.tool_slug,
        lease_until=instant_of(claim.lease_until),
    )


def store_claim_of(claim: Claim) -> StoreClaim:
    """Return the store's claim for one that the store never gave, such as a forged one."""
    job = ToolJob(
        id=claim.job,
        tool_slug=claim.tool,
        status=ToolJobStatus.PROCESSING,
        input=None,
        pgboss_job_id=queue_id_of(claim.job),
        attempts=claim.attempt,
    )
    return StoreClaim(job, claim.token, store_time(claim.lease_until), claim.worker)


def view_of(row: JobRow, *, origin: datetime = ORIGIN) -> JobView:
    """Return both rows of a job as an observer sees them, in a run that began at `origin`.

    A row that lost its instant of creation counts as of the run's start, one without a start as due
    when created.
    """
    created_at = 0 if row.created_at is None else instant_of(row.created_at, origin)
    return JobView(
        id=row.id,
        tool=row.tool_slug,
        status=None if row.status is None else _STATUS[row.status],
        queue_state=None if row.queue_state is None else _QUEUE_STATE[row.queue_state],
        priority=row.priority,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        token=row.token,
        worker=row.worker,
        output=row.output,
        error=row.error,
        unique_key=row.unique_key,
        created_at=created_at,
        start_after=created_at if row.start_after is None else instant_of(row.start_after, origin),
        started_at=instant_of(row.started_at, origin),
        lease_until=instant_of(row.lease_until, origin),
        completed_at=instant_of(row.completed_at, origin),
        expires_at=instant_of(row.expires_at, origin),
    )


T = TypeVar("T")

STALE = Outcome.refused("the claim was taken back")


@dataclass(frozen=True, slots=True)
class Settlement:
    """How complete, expire and rescue are written where they take several statements: rightly, or wrongly."""

    compares: bool = True
    """Whether each write asks once more for what was read: compare and set on status, token and time."""
    locks: bool = False
    """Whether what is read is locked, `FOR UPDATE`."""
    same_order: bool = True
    """Whether all take the queue's row first, as every other verb does; if not, complete takes `tool_job` first."""


class BeforeStatement(Protocol):
    """Suspends before something named is done."""

    def __call__(self, name: str, /) -> Awaitable[None]: ...


async def at_once(name: str) -> None:
    """The gate that is always open."""


def run_through(work: Coroutine[Any, Any, T]) -> T:
    """Drive a coroutine that never suspends to its end."""
    try:
        work.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    work.close()
    raise RuntimeError(f"{work!r} suspended; only a stepped engine's verbs may")


class ReferenceQueue:
    """A queue under test over one store. Stepped, its verbs return coroutines that suspend before each statement."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        heartbeat=True,
        release=True,
        cancel=True,
        retry=True,
        priorities=True,
        unique=True,
        start_after=True,
        maintenance=True,
        virtual_time=True,
        snapshot=False,
        fencing=True,
    )

    def __init__(
        self,
        settings: Settings,
        clocks: EngineClocks,
        jitter: Callable[[], float],
        *,
        tools: set[str],
        stepped: bool = False,
        gate: BeforeStatement = at_once,
    ) -> None:
        """Share `tools`, the slugs registered so far, with whatever outlives this queue."""
        self.settings = settings
        self.store: Store
        """Where the verbs go; `observed` where `jobs` looks. Both are set by the code that opens the queue."""
        self.observed: Store
        self._clocks = clocks
        self._jitter = jitter
        self._tools = tools
        self._in_use: dict[str, None] = {}
        self._stepped = stepped
        self._gate = gate
        self._issued: dict[Claim, StoreClaim] = {}
        self._deleted: Counter[JobId] = Counter()
        self._mending = False

    def share(self, other: ReferenceQueue) -> None:
        """Know the claims and tools that another queue on the same tables knows."""
        self._issued = other._issued
        self._deleted = other._deleted
        self._in_use = other._in_use

    def now(self) -> datetime:
        """Read the store's clock, for the store."""
        return store_time(self._clocks.store())

    def jitter(self) -> float:
        """Draw for the store: once a statement that may delay a retry, not at all where no delay is stretched.

        A reconcile goes without: it delays only what lost its queue row, and comes every minute, so
        that the tape would be full of draws that move nothing.
        """
        mending, self._mending = self._mending, False
        return self._jitter() if self.settings.retry_backoff and not mending else 0.0

    def _answer(self, work: Coroutine[Any, Any, Outcome]) -> Reply:
        return work if self._stepped else run_through(work)

    # observation ----------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first."""
        rows: list[JobRow] = run_through(self._rows())
        return {row.id: view_of(row) for row in rows}

    async def _rows(self) -> list[JobRow]:
        return await self.observed.rows()

    def changed(self) -> list[JobId] | None:
        """Changes are not tracked, so every job is read again."""
        return None

    def close(self) -> None:
        """Nothing to give back: the store belongs to the engine."""

    # producers and operators ----------------------------------------------------------------------------------------

    def enqueue(self, request: JobRequest) -> Reply:
        """Create a job, its tool first where that is new."""
        return self._answer(self._enqueue(request))

    async def _enqueue(self, request: JobRequest) -> Outcome:
        try:
            if request.tool not in self._in_use:
                await self._register(request.tool)
            await self._gate("enqueue")
            job = new_job_of(request, self.settings, self._deleted[request.id])
            answer = await self.store.enqueue(job)
        except InvalidJsonError as error:
            return Outcome.refused(f"invalid input: {error}")
        except QueueError as error:
            return Outcome.refused(str(error))
        if answer.created:
            return done(answer.job.id)
        why = "this id exists" if answer.job.id == request.id else "the unique key is held"
        return Outcome.refused(why, answer.job.id)

    async def _register(self, tool: str) -> None:
        if tool not in self._tools:
            await self.observed.register_tool(tool)
            self._tools.add(tool)
        self._in_use[tool] = None

    def cancel(self, job: JobId) -> Reply:
        """Cancel what is not terminal."""
        return self._answer(self._cancel(job))

    async def _cancel(self, job: JobId) -> Outcome:
        await self._gate("cancel")
        return DONE if await self.store.cancel(job) else Outcome.refused("the job is terminal or unknown")

    def retry(self, job: JobId) -> Reply:
        """Open a new attempt budget."""
        return self._answer(self._retry(job))

    async def _retry(self, job: JobId) -> Outcome:
        await self._gate("retry")
        if await self.store.retry(job):
            return DONE
        return Outcome.refused("the job has not failed, is unknown, or its unique key is held")

    # workers --------------------------------------------------------------------------------------------------------

    def claim(self, worker: str, limit: int) -> Reply:
        """Take due jobs of every tool seen in this run."""
        return self._answer(self._claim(worker, limit))

    async def _claim(self, worker: str, limit: int) -> Outcome:
        await self._gate("claim")
        claims: list[Claim] = []
        for issued in await self.store.claim(worker=worker, tools=list(self._in_use), limit=limit):
            claims.append(claim := claim_of(issued))
            self._issued[claim] = issued
        return done(claims)

    def _presented(self, claim: Claim) -> StoreClaim:
        return self._issued.get(claim) or store_claim_of(claim)

    def heartbeat(self, claim: Claim) -> Reply:
        """Extend a lease."""
        return self._answer(self._heartbeat(claim))

    async def _heartbeat(self, claim: Claim) -> Outcome:
        await self._gate("heartbeat")
        return DONE if await self.store.heartbeat(self._presented(claim)) else STALE

    def complete(self, claim: Claim, output: Json) -> Reply:
        """Settle as a success."""
        return self._answer(self._complete(claim, output))

    async def _complete(self, claim: Claim, output: Json) -> Outcome:
        await self._gate("complete")
        try:
            return DONE if await self.store.complete(self._presented(claim), output) else STALE
        except InvalidJsonError as error:
            return Outcome.refused(f"invalid output: {error}")

    def fail(self, claim: Claim, error: str, final: bool) -> Reply:
        """Settle as a failure."""
        return self._answer(self._fail(claim, error, final))

    async def _fail(self, claim: Claim, error: str, final: bool) -> Outcome:
        await self._gate("fail")
        status: ToolJobStatus | None = await self.store.fail(self._presented(claim), error, final=final)
        return STALE if status is None else DONE

    def release(self, claim: Claim) -> Reply:
        """Give the job back unrun."""
        return self._answer(self._release(claim))

    async def _release(self, claim: Claim) -> Outcome:
        await self._gate("release")
        return DONE if await self.store.release(self._presented(claim)) else STALE

    # the queue's own upkeep, and the cron ---------------------------------------------------------------------------

    def expire(self) -> Reply:
        """Take back every claim whose lease ran out."""
        return self._answer(self._upkeep("expire", lambda: self.store.expire()))

    def reconcile(self) -> Reply:
        """Make both rows of every job agree."""
        return self._answer(self._upkeep("reconcile", self._reconcile))

    def _reconcile(self) -> Awaitable[list[JobId]]:
        self._mending = True
        return self.store.reconcile()

    def rescue(self) -> Reply:
        """Take back what is PROCESSING for as long as the stuck timeout."""
        stuck_after = length_of(self.settings.stuck_timeout)
        return self._answer(self._upkeep("rescue_stuck", lambda: self.store.rescue_stuck(stuck_after=stuck_after)))

    def purge(self) -> Reply:
        """Delete terminal jobs past their retention."""
        return self._answer(self._upkeep("delete_expired", self._delete_expired))

    async def _delete_expired(self) -> list[JobId]:
        deleted = await self.store.delete_expired()
        self._deleted.update(deleted)
        return deleted

    async def _upkeep(self, name: str, work: Callable[[], Awaitable[list[JobId]]]) -> Outcome:
        await self._gate(name)
        return done(await work())


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The store's state, and the claims that stand for it."""

    store: MemorySnapshot
    tools: tuple[str, ...]
    issued: dict[Claim, StoreClaim]
    deleted: Counter[JobId]


async def at_point(name: str) -> None:
    """Suspend at the point that the PostgreSQL engine has there: memory has no statement to stop at."""
    await Point(name)


class MemoryReferenceQueue(ReferenceQueue):
    """Opened anew for each run, on a store of its own."""

    capabilities: ClassVar[Capabilities] = replace(ReferenceQueue.capabilities, snapshot=True)

    def __init__(
        self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float], *, stepped: bool = False
    ) -> None:
        gate: BeforeStatement = at_point if stepped else at_once
        super().__init__(settings, clocks, jitter, tools=set(), stepped=stepped, gate=gate)
        self._memory = MemoryStore(now=self.now, jitter=self.jitter)
        self.store = self.observed = self._memory

    def snapshot(self) -> QueueSnapshot:
        """Return the state as a value."""
        return QueueSnapshot(self._memory.snapshot(), tuple(self._in_use), dict(self._issued), Counter(self._deleted))

    def restore(self, state: QueueSnapshot) -> None:
        """Go back to a state."""
        self._memory.restore(state.store)
        self._tools.clear()
        self._tools.update(state.store.tools)
        self._in_use = dict.fromkeys(state.tools)
        self._issued = dict(state.issued)
        self._deleted = Counter(state.deleted)
