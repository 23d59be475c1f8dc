"""A reference store in memory whose every verb is a gate of the process that calls it, and is recorded as one.

Hides how the next jobs to claim are found without looking at all others. Starts nothing. What a
test itself enqueues, cancels and retries is no gate: the test is the script.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from job_harness.core.faults.messages import DUPLICATE, HAND_OUT_TWICE
from job_harness.core.history import DONE, Outcome, OutcomeKind, done
from job_harness.core.model import Instant, JobId, JobView
from job_harness.core.port import Claim, JobRequest
from job_harness.core.run.live import JobPoint, LiveTest
from job_harness.core.sim import Actor, Kernel, Option, VerbCall
from job_harness.core.sim.carrier import CarriedProcess
from job_harness.engines.reference.queue import view_of
from job_harness_reference.errors import InvalidJsonError
from job_harness_reference.models import Claim as ReferenceClaim
from job_harness_reference.models import Enqueued, JobRow, JsonValue, NewJob, ToolJob, ToolJobStatus
from job_harness_reference.store.memory import MemoryStore
from job_harness_reference.store.memory_rows import QueueRow, ToolRow, job_row_of, lone_queue_row, names

T = TypeVar("T")
TEST: Final = "test"
"""The actor that enqueues, cancels and retries."""
STALE: Final = Outcome.refused("the claim was taken back")
BEFORE_STARTING: Final = "before starting"
"""The place of each claimed job, before its worker hears of it."""


class _Noted(dict[str, Any]):
    """Rows by id, and which of them were touched since the last look."""

    def __init__(self) -> None:
        super().__init__()
        self.touched: dict[str, Any] = {}

    def __setitem__(self, key: str, row: Any) -> None:
        self.touched[key] = row
        super().__setitem__(key, row)

    def __delitem__(self, key: str) -> None:
        self.touched[key] = self[key]
        super().__delitem__(key)


class StoreRows:
    """The rows of a memory store as the harness's views; only what was touched is read again."""

    def __init__(self, store: MemoryStore, *, start: datetime) -> None:
        self._start = start
        self._jobs = store.tool_jobs = _Noted()
        self._queued = store.queue_jobs = _Noted()
        self._views: dict[JobId, JobView] = {}
        self._changed: dict[JobId, None] = {}

    def jobs(self) -> dict[JobId, JobView]:
        """Return all current jobs."""
        touched = dict.fromkeys(self._jobs.touched)
        touched |= dict.fromkeys(names(row.data) or key for key, row in self._queued.touched.items())
        self._jobs.touched.clear()
        self._queued.touched.clear()
        for job in touched:
            self._read(job)
        self._changed |= touched
        return self._views

    def changed(self) -> list[JobId]:
        """Return and forget what was touched."""
        changed = list(self._changed)
        self._changed.clear()
        return changed

    def _read(self, job: JobId) -> None:
        row = self._jobs.get(job)
        if row is not None:
            self._views[job] = view_of(job_row_of(row, self._queued.get(row.pgboss_job_id or "")), origin=self._start)
            return
        lone = next((each for each in self._queued.values() if names(each.data) == job), None)
        if lone is not None:
            self._views[job] = view_of(lone_queue_row(lone), origin=self._start)
        else:
            self._views.pop(job, None)


class Redelivery:
    """A job that was claimed once is handed out twice: the queue's message came again."""

    id = HAND_OUT_TWICE.kind
    midway = False

    def __init__(self, store: RecordedStore) -> None:
        self._store = store

    def options(self, kernel: Kernel, actor: Actor | None) -> Sequence[Option]:
        """Offer it where a worker is about to hear of a job."""
        request = None if actor is None else actor.request
        return (HAND_OUT_TWICE,) if isinstance(request, JobPoint) and request.name == BEFORE_STARTING else ()

    def apply(self, kernel: Kernel, actor: Actor | None, option: Option) -> None:
        """Hand it out twice."""
        assert actor is not None
        assert isinstance(actor.request, JobPoint)
        self._store.twice.add(actor.request.job)
        kernel.ready.remove(actor)
        kernel.perform(actor)


class StoreHooks(Protocol):
    """Who has to look again when the store changed."""

    def note_change(self) -> None:
        """Hear that something was written."""


class RecordedStore:
    """The store that the worker, maintenance and the test share."""

    def __init__(self, store: MemoryStore, session: LiveTest, *, start: datetime, watcher: StoreHooks) -> None:
        self._store = store
        self._watcher = watcher
        self._session = session
        self._recorder = session.recorder
        self._start = start
        session.offer(Redelivery(self))
        self.allowance: int | None = 0
        """How many jobs may still be claimed; None is any number."""
        self.works: dict[JobId, str] = {}
        """The piece of work that a job was enqueued as a part of, which no row has."""
        self.claims: dict[tuple[JobId, int], Claim] = {}
        """The last claim of each attempt of every job."""
        self.maintenance: CarriedProcess
        """The cron's process."""
        self.twice: set[JobId] = set()
        """Claimed jobs that are about to be handed out twice."""

    async def register_tool(self, slug: str) -> None:
        """Make the tool known."""
        await self._store.register_tool(slug)

    async def enqueue(self, job: NewJob) -> Enqueued:
        """Write both rows, or find the unfinished holder of the unique key."""

        def outcome(answer: Enqueued) -> Outcome:
            if answer.created:
                return done(answer.job.id)
            return Outcome.refused("the unique key is held", answer.job.id)

        arguments = (self._request(job),)
        return await self._record_call("enqueue", self._store.enqueue(job), outcome, arguments=arguments, job=job.id)

    async def claim(self, *, worker: str, tools: Sequence[str], limit: int = 1) -> list[ReferenceClaim]:
        """Claim as many as the test allows, of any tool that is known by now."""
        if self.allowance is not None:
            limit = min(limit, self.allowance)
        if limit <= 0:
            return []
        process = self._session.worker_at_work()
        claims = await self._called(
            process,
            "claim",
            lambda: self._store.claim(worker=worker, tools=tuple(self._store.tools), limit=limit),
            self._claimed,
            arguments=(worker, limit),
        )
        for each in claims:
            claim = self.claims[each.job.id, each.job.attempts]
            self._recorder.effect(worker, claim.job, claim.attempt, claim.token, "claimed")
        for each in claims:
            await process.gate(JobPoint(BEFORE_STARTING, each.job.id))
        return [*claims, *self._again(claims)]

    def _claimed(self, claims: list[ReferenceClaim]) -> Outcome:
        if self.allowance is not None:
            self.allowance -= len(claims)
        taken = [self._claim(each) for each in claims]
        self.claims |= {(claim.job, claim.attempt): claim for claim in taken}
        return done(taken)

    def _again(self, claims: list[ReferenceClaim]) -> list[ReferenceClaim]:
        again = [each for each in claims if each.job.id in self.twice] if self.twice else []
        for each in again:
            self.twice.discard(each.job.id)
            self._recorder.fault(each.worker, DUPLICATE.event, {"at": "delivery", "job": each.job.id})
        return again

    async def heartbeat(self, claim: ReferenceClaim) -> bool:
        """Extend the lease."""
        return await self._call_with_claim("heartbeat", claim, lambda: self._store.heartbeat(claim))

    async def complete(self, claim: ReferenceClaim, output: JsonValue) -> bool:
        """Settle as COMPLETED."""
        return await self._call_with_claim("complete", claim, lambda: self._store.complete(claim, output), output)

    async def fail(self, claim: ReferenceClaim, error: str, *, final: bool = False) -> ToolJobStatus | None:
        """Settle as failed."""
        return await self._call_with_claim(
            "fail", claim, lambda: self._store.fail(claim, error, final=final), error, final
        )

    async def release(self, claim: ReferenceClaim) -> bool:
        """Give the job back."""
        return await self._call_with_claim("release", claim, lambda: self._store.release(claim))

    async def cancel(self, job_id: str) -> bool:
        """Cancel what is not terminal."""
        return await self._operate("cancel", job_id, self._store.cancel(job_id))

    async def retry(self, job_id: str) -> bool:
        """Open a new attempt budget."""
        return await self._operate("retry", job_id, self._store.retry(job_id))

    async def expire(self, *, limit: int = 1000) -> list[str]:
        """Take back what is overdue."""
        return await self._maintained("expire", lambda: self._store.expire(limit=limit))

    async def reconcile(self) -> list[str]:
        """Make both rows agree."""
        return await self._maintained("reconcile", self._store.reconcile)

    async def rescue_stuck(self, *, stuck_after: timedelta) -> list[str]:
        """Take back what is stuck."""
        return await self._maintained("rescue", lambda: self._store.rescue_stuck(stuck_after=stuck_after))

    async def delete_expired(self, *, limit: int = 1000) -> list[str]:
        """Delete what is past its retention."""
        return await self._maintained("purge", lambda: self._store.delete_expired(limit=limit))

    async def get(self, job_id: str) -> ToolJob | None:
        """Read one job."""
        return await self._store.get(job_id)

    async def list_owned(
        self, *, user_id: str | None = None, session_id: str | None = None, limit: int = 100
    ) -> list[ToolJob]:
        """Read the jobs of one owner."""
        return await self._store.list_owned(user_id=user_id, session_id=session_id, limit=limit)

    async def next_due(self, *, tools: Sequence[str]) -> datetime | None:
        """Tell when the next job can be claimed."""
        return await self._store.next_due(tools=tools)

    async def rows(self) -> list[JobRow]:
        """Read both rows of every job."""
        return await self._store.rows()

    def _request(self, job: NewJob) -> JobRequest:
        return JobRequest(
            id=job.id,
            tool=job.tool_slug,
            input=job.input,
            priority=job.priority,
            max_attempts=job.max_attempts,
            start_after=None if job.start_after is None else instant(job.start_after, start=self._start),
            unique_key=job.unique_key,
            work=self.works.get(job.id),
        )

    def _claim(self, claim: ReferenceClaim) -> Claim:
        job = claim.job
        until = instant(claim.lease_until, start=self._start)
        return Claim(job.id, job.attempts, claim.token, claim.worker, job.tool_slug, until)

    async def _call_with_claim(
        self, verb: str, claim: ReferenceClaim, make: Callable[[], Awaitable[T]], *rest: Any
    ) -> T:
        return await self._called(
            self._session.worker_at_work(),
            verb,
            make,
            lambda answer: DONE if answer else STALE,
            arguments=(self._claim(claim), *rest),
            job=claim.job.id,
            token=claim.token,
        )

    async def _maintained(self, verb: str, make: Callable[[], Awaitable[list[str]]]) -> list[str]:
        return await self._called(self.maintenance, verb, make, done)

    async def _operate(self, verb: str, job: JobId, made: Awaitable[bool]) -> bool:
        refused = Outcome.refused("its status does not allow it, or there is no such job")
        return await self._record_call(
            verb, made, lambda answer: DONE if answer else refused, arguments=(job,), job=job
        )

    async def _called(
        self,
        process: CarriedProcess,
        verb: str,
        make: Callable[[], Awaitable[T]],
        outcome: Callable[[T], Outcome],
        *,
        arguments: tuple[Any, ...] = (),
        job: JobId | None = None,
        token: int | None = None,
    ) -> T:
        """Let a process call a verb at its gate. Raises what the store raises; ConnectionError for a lost message."""
        answers: list[T] = []
        errors: list[BaseException] = []

        async def run() -> Outcome:
            try:
                answers.append(await make())
            except InvalidJsonError as error:
                errors.append(error)
                return Outcome.refused(f"no JSON: {error}")
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a hostile value may leave by any door
                errors.append(error)
                return Outcome.unknown(f"{type(error).__name__}: {error}")
            return outcome(answers[-1])

        try:
            said = await process.gate(VerbCall(verb, arguments, job, token, run))
        finally:
            self._watcher.note_change()
        if errors:
            raise errors[-1]
        if said.kind is OutcomeKind.UNKNOWN:
            raise ConnectionError(f"{verb}: {said.reason}")
        return answers[-1]

    async def _record_call(
        self, verb: str, made: Awaitable[T], outcome: Callable[[T], Outcome], *, arguments: tuple[Any, ...], job: JobId
    ) -> T:
        """Call a verb for the test, and write it down."""
        said = Outcome.unknown("it raised")
        try:
            answer = await made
            said = outcome(answer)
            return answer
        except InvalidJsonError as error:
            said = Outcome.refused(f"no JSON: {error}")
            raise
        except (Exception, SystemExit) as error:
            said = Outcome.unknown(f"{type(error).__name__}: {error}")
            raise
        finally:
            self._recorder.record_call(TEST, verb, said, arguments=arguments, job=job)
            self._watcher.note_change()


def instant(moment: datetime, *, start: datetime) -> Instant:
    """Return the microseconds from the start of the run."""
    return (moment - start) // timedelta(microseconds=1)


class LineStore(MemoryStore):
    """Claims as the store does, and can be told to hand out nothing but certain jobs."""

    only: Collection[JobId] | None = None
    """The only jobs that may be claimed; None is any."""
    live: Mapping[JobId, object]
    """The jobs that are not terminal: no others are looked at for what waits or is at work."""

    def __init__(self, *, now: Callable[[], datetime], jitter: Callable[[], float]) -> None:
        super().__init__(now=now, jitter=jitter)
        self.live = {}
        self._later: list[tuple[datetime, JobId]] = []
        self._line: list[_Entry] = []
        self._first: list[_Entry] | None = None

    def stand_in_line(self, job: JobId) -> None:
        """Take note of a job that waits from now on."""
        pair = self._pair(job)
        if pair is not None:
            heapq.heappush(self._later, (pair[1].start_after, job))

    async def claim(self, *, worker: str, tools: Sequence[str], limit: int = 1) -> list[ReferenceClaim]:
        """Claim among the first in line."""
        if self.only is not None:
            return await super().claim(worker=worker, tools=tools, limit=limit)
        self._first = first = self._take(limit)
        try:
            return await super().claim(worker=worker, tools=tools, limit=limit)
        finally:
            self._first = None
            for entry in first:
                if self._stands(entry) is not None:
                    heapq.heappush(self._line, entry)

    def _take(self, limit: int) -> list[_Entry]:
        later, line, now = self._later, self._line, self._now()
        while later and later[0][0] <= now:
            start_after, job = heapq.heappop(later)
            pair = self._pair(job)
            if pair is not None and pair[1].waiting and pair[1].start_after == start_after:
                heapq.heappush(line, (-pair[1].priority, pair[1].created_on, pair[1].id, job, start_after))
        first: list[_Entry] = []
        while line and len(first) < limit:
            entry = heapq.heappop(line)
            if self._stands(entry) is not None and (not first or first[-1] != entry):
                first.append(entry)
        return first

    def _stands(self, entry: _Entry) -> tuple[ToolRow, QueueRow] | None:
        pair = self._pair(entry[3])
        if pair is None or pair[0].status is not ToolJobStatus.PENDING or not pair[1].waiting:
            return None
        return pair if pair[1].start_after == entry[4] else None

    def _pairs(self, *statuses: ToolJobStatus) -> Iterator[tuple[ToolRow, QueueRow]]:
        if len(statuses) != 1 or statuses[0].terminal:
            yield from super()._pairs(*statuses)
            return
        looked_at: Collection[JobId] = self.live
        if statuses[0] is ToolJobStatus.PENDING and self._first is not None:
            looked_at = [entry[3] for entry in self._first]
        elif statuses[0] is ToolJobStatus.PENDING and self.only is not None:
            looked_at = self.only
        for job in looked_at:
            pair = self._pair(job)
            if pair is not None and pair[0].status is statuses[0]:
                yield pair


_Entry = tuple[int, datetime, str, JobId, datetime]
"""How a job stands in line: the highest priority, then the oldest, then by its row; and since when it is due."""
