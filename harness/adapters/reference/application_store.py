"""A reference store in memory whose every verb is written down as the harness's events. Starts nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from harness.history.event import Call, Return
from harness.history.outcome import DONE, Outcome, done
from harness.invariants import Judge
from harness.model.duration import Instant
from harness.model.job import JobId, JobView
from harness.model.lifecycle import QueueState, Status
from harness.port import Claim, JobRequest
from harness.port import QueueUnderTest as Queue
from harness.run.board import Board
from harness.run.recorder import Recorder
from harness.sim.clock import Clocks
from reference_impl.errors import InvalidJsonError
from reference_impl.models import Claim as ReferenceClaim
from reference_impl.models import Enqueued, JobRow, JsonValue, NewJob, ToolJob, ToolJobStatus
from reference_impl.store.memory import MemoryStore
from reference_impl.store.memory_rows import job_row_of, lone_queue_row, names

T = TypeVar("T")
MAINTENANCE = "maintenance"
TEST = "test"
"""The actor that enqueues, cancels and retries."""
STALE = Outcome.refused("the claim was taken back")


class _Noted(dict[str, Any]):
    """Rows by id, and which of them were touched since somebody last asked."""

    def __init__(self) -> None:
        super().__init__()
        self.touched: dict[str, Any] = {}

    def __setitem__(self, key: str, row: Any) -> None:
        self.touched[key] = row
        super().__setitem__(key, row)

    def __delitem__(self, key: str) -> None:
        self.touched[key] = self[key]
        super().__delitem__(key)


class Rows:
    """The rows of a memory store as the harness's views; only what was touched is read again."""

    def __init__(self, store: MemoryStore, *, start: datetime) -> None:
        self._start = start
        self._jobs = store.tool_jobs = _Noted()
        self._queued = store.queue_jobs = _Noted()
        self._views: dict[JobId, JobView] = {}
        self._changed: dict[JobId, None] = {}

    def jobs(self) -> dict[JobId, JobView]:
        """Answer all current jobs."""
        touched = dict.fromkeys(self._jobs.touched)
        touched |= dict.fromkeys(names(row.data) or key for key, row in self._queued.touched.items())
        self._jobs.touched.clear()
        self._queued.touched.clear()
        for job in touched:
            self._read(job)
        self._changed |= touched
        return self._views

    def changed(self) -> list[JobId]:
        """Answer and forget what was touched."""
        changed = list(self._changed)
        self._changed.clear()
        return changed

    def _read(self, job: JobId) -> None:
        row = self._jobs.get(job)
        if row is not None:
            self._views[job] = view_of(job_row_of(row, self._queued.get(row.pgboss_job_id or "")), start=self._start)
            return
        lone = next((each for each in self._queued.values() if names(each.data) == job), None)
        if lone is not None:
            self._views[job] = view_of(lone_queue_row(lone), start=self._start)
        else:
            self._views.pop(job, None)


class VerbRecorder(Recorder):
    """Writes down verbs that somebody else calls, each atomic."""

    def __init__(self, rows: Rows, clocks: Clocks, board: Board, judge: Judge) -> None:
        super().__init__(cast(Queue, rows), clocks, board, judge)

    async def around(
        self,
        actor: str,
        verb: str,
        made: Awaitable[T],
        *,
        outcome: Callable[[T], Outcome],
        arguments: tuple[Any, ...] = (),
        job: JobId | None = None,
        token: int | None = None,
    ) -> T:
        """Await a verb and write down the call, what changed, and the outcome."""
        self.number += 1
        number = self.number
        self._write(Call(self._clocks.now, actor, verb, job, token, arguments, number))

        def returned(what: Outcome) -> None:
            self.observe(actor, verb)
            self._write(Return(self._clocks.now, actor, verb, job, token, what, number, True))

        try:
            answer = await made
        except InvalidJsonError as error:
            returned(Outcome.refused(f"no JSON: {error}"))
            raise
        except (Exception, SystemExit) as error:
            returned(Outcome.unknown(f"{type(error).__name__}: {error}"))
            raise
        returned(outcome(answer))
        return answer


class RecordedStore:
    """The store that the worker, the cron and the test share."""

    def __init__(self, store: MemoryStore, recorder: VerbRecorder, *, start: datetime) -> None:
        self._store = store
        self._recorder = recorder
        self._start = start
        self.allowance: int | None = 0
        """How many jobs may still be claimed; None is any number."""
        self.claims: dict[JobId, Claim] = {}
        """The last claim of every job."""
        self.on_change: Callable[[], None] = lambda: None
        self.on_place: Callable[[str, JobId], Awaitable[None]] | None = None
        """Awaited with "before VERB" and "after VERB" around what a worker asks for."""
        self.twice: set[JobId] = set()
        """Jobs whose next delivery arrives twice."""

    async def register_tool(self, slug: str) -> None:
        """Make the tool known."""
        await self._store.register_tool(slug)

    async def enqueue(self, job: NewJob) -> Enqueued:
        """Write both rows, or find the unfinished holder of the unique key."""

        def outcome(answer: Enqueued) -> Outcome:
            if answer.created:
                return done(answer.job.id)
            return Outcome.refused("the unique key is held", answer.job.id)

        made = self._store.enqueue(job)
        arguments = (self._request(job),)
        return await self._record(TEST, "enqueue", made, outcome=outcome, arguments=arguments, job=job.id)

    async def claim(self, *, worker: str, tools: Sequence[str], limit: int = 1) -> list[ReferenceClaim]:
        """Claim as many as the test allows, of any tool that is known by now."""
        if self.allowance is not None:
            limit = min(limit, self.allowance)
        if limit <= 0:
            return []
        made = self._store.claim(worker=worker, tools=tuple(self._store.tools), limit=limit)
        claims = await self._record(
            worker,
            "claim",
            made,
            outcome=lambda answer: done([self._claim(each) for each in answer]),
            arguments=(worker, limit),
        )
        for each in claims:
            claim = self.claims[each.job.id] = self._claim(each)
            self._recorder.effect(worker, claim.job, claim.attempt, claim.token, "claimed")
        if self.allowance is not None:
            self.allowance -= len(claims)
        if self.on_place is not None:
            for each in claims:
                await self.on_place("after claim", each.job.id)
        return [*claims, *self._again(claims)]

    def _again(self, claims: list[ReferenceClaim]) -> list[ReferenceClaim]:
        again = [each for each in claims if each.job.id in self.twice] if self.twice else []
        for each in again:
            self.twice.discard(each.job.id)
            self._recorder.fault(each.worker, "duplicate", {"at": "delivery", "job": each.job.id})
        return again

    async def heartbeat(self, claim: ReferenceClaim) -> bool:
        """Extend the lease."""
        return await self._settle("heartbeat", claim, lambda: self._store.heartbeat(claim))

    async def complete(self, claim: ReferenceClaim, output: JsonValue) -> bool:
        """Settle as COMPLETED."""
        return await self._settle("complete", claim, lambda: self._store.complete(claim, output), output)

    async def fail(self, claim: ReferenceClaim, error: str, *, final: bool = False) -> ToolJobStatus | None:
        """Settle as failed."""
        return await self._settle("fail", claim, lambda: self._store.fail(claim, error, final=final), error, final)

    async def release(self, claim: ReferenceClaim) -> bool:
        """Give the job back."""
        return await self._settle("release", claim, lambda: self._store.release(claim))

    async def cancel(self, job_id: str) -> bool:
        """Cancel what is not terminal."""
        return await self._operate("cancel", job_id, self._store.cancel(job_id))

    async def retry(self, job_id: str) -> bool:
        """Open a new attempt budget."""
        return await self._operate("retry", job_id, self._store.retry(job_id))

    async def expire(self, *, limit: int = 1000) -> list[str]:
        """Take back what is overdue."""
        return await self._record(MAINTENANCE, "expire", self._store.expire(limit=limit), outcome=done)

    async def reconcile(self) -> list[str]:
        """Make both rows agree."""
        return await self._record(MAINTENANCE, "reconcile", self._store.reconcile(), outcome=done)

    async def rescue_stuck(self, *, stuck_after: timedelta) -> list[str]:
        """Take back what is stuck."""
        made = self._store.rescue_stuck(stuck_after=stuck_after)
        return await self._record(MAINTENANCE, "rescue", made, outcome=done)

    async def delete_expired(self) -> list[str]:
        """Delete what is past its retention."""
        return await self._record(MAINTENANCE, "purge", self._store.delete_expired(), outcome=done)

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
        )

    def _claim(self, claim: ReferenceClaim) -> Claim:
        job = claim.job
        until = instant(claim.lease_until, start=self._start)
        return Claim(job.id, job.attempts, claim.token, claim.worker, job.tool_slug, until)

    async def _settle(self, verb: str, claim: ReferenceClaim, make: Callable[[], Awaitable[T]], *rest: Any) -> T:
        job = claim.job.id
        if self.on_place is not None:
            await self.on_place(f"before {verb}", job)
        answer = await self._record(
            claim.worker,
            verb,
            make(),
            outcome=lambda answer: DONE if answer else STALE,
            arguments=(self._claim(claim), *rest),
            job=job,
            token=claim.token,
        )
        if self.on_place is not None:
            await self.on_place(f"after {verb}", job)
        return answer

    async def _operate(self, verb: str, job: JobId, made: Awaitable[bool]) -> bool:
        refused = Outcome.refused("its status does not allow it, or there is no such job")
        return await self._record(
            TEST, verb, made, outcome=lambda answer: DONE if answer else refused, arguments=(job,), job=job
        )

    async def _record(self, actor: str, verb: str, made: Awaitable[T], **about: Any) -> T:
        try:
            return await self._recorder.around(actor, verb, made, **about)
        finally:
            self.on_change()


def instant(moment: datetime, *, start: datetime) -> Instant:
    """Answer the microseconds from the start of the run."""
    return (moment - start) // timedelta(microseconds=1)


def view_of(row: JobRow, *, start: datetime) -> JobView:
    """Present both rows of a job as the harness sees them."""

    def at(moment: datetime | None) -> Instant | None:
        return None if moment is None else instant(moment, start=start)

    return JobView(
        id=row.id,
        tool=row.tool_slug,
        status=None if row.status is None else Status(row.status.value),
        queue_state=None if row.queue_state is None else QueueState(row.queue_state.value),
        priority=row.priority,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        token=row.token,
        worker=row.worker,
        output=row.output,
        error=row.error,
        unique_key=row.unique_key,
        created_at=at(row.created_at) or 0,
        start_after=at(row.start_after) or 0,
        started_at=at(row.started_at),
        lease_until=at(row.lease_until),
        completed_at=at(row.completed_at),
        expires_at=at(row.expires_at),
    )
