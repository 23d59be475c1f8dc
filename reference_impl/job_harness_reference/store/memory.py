"""The store in memory: the behaviour of the PostgreSQL store, row by row. No time and no chance of its own.

A verb never suspends, so each is atomic on one event loop. Rows are frozen: a snapshot is two
shallow copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from job_harness_reference.clock import Jitter
from job_harness_reference.errors import InvalidJsonError, QueueError, UnknownToolError
from job_harness_reference.json_values import decode, encode, error_text, escape_text, through_jsonb
from job_harness_reference.lifecycle import Event, step
from job_harness_reference.models import (
    Claim,
    Enqueued,
    JobRow,
    JsonValue,
    NewJob,
    QueueState,
    ToolJob,
    ToolJobStatus,
)
from job_harness_reference.retry import retry_after, spread
from job_harness_reference.store.batch import Settlement
from job_harness_reference.store.memory_reconcile import reconcile_rows
from job_harness_reference.store.memory_rows import (
    MemorySnapshot,
    QueueRow,
    ToolRow,
    job_row_of,
    lone_queue_row,
    new_queue_row,
    new_tool_row,
    replace,
    tool_job_of,
)
from job_harness_reference.store.new_job import AcceptedJob, accept, accept_slug


class MemoryStore:
    """The queue's verbs over two dicts."""

    def __init__(self, *, now: Callable[[], datetime], jitter: Jitter) -> None:
        """Ask `now` for the store's time (with a time zone) and `jitter` for numbers in [0, 1)."""
        self._now = now
        self._jitter = jitter
        self.tools: set[str] = set()
        """The slugs that have a partition."""
        self.tool_jobs: dict[str, ToolRow] = {}
        """`public.tool_job` by id."""
        self.queue_jobs: dict[str, QueueRow] = {}
        """`pgboss.job` by id."""

    def snapshot(self) -> MemorySnapshot:
        """Remember everything as it is."""
        return MemorySnapshot(frozenset(self.tools), dict(self.tool_jobs), dict(self.queue_jobs))

    def restore(self, snapshot: MemorySnapshot) -> None:
        """Be again as at the snapshot."""
        self.tools = set(snapshot.tools)
        self.tool_jobs = dict(snapshot.tool_jobs)
        self.queue_jobs = dict(snapshot.queue_jobs)

    async def register_tool(self, slug: str) -> None:
        """Make the tool known; does nothing where it is."""
        self.tools.add(accept_slug(slug))

    async def enqueue(self, job: NewJob) -> Enqueued:
        """Write both rows, or find the job of the same id, or the unfinished holder of the unique key."""
        accepted = accept(job)
        standing = self._standing(accepted)
        if standing is not None:
            return Enqueued(tool_job_of(standing), created=False)
        if job.tool_slug not in self.tools:
            raise UnknownToolError(f"no partition for {job.tool_slug!r}; register the tool first")
        if accepted.queue_id in self.queue_jobs or self._key_held(job.tool_slug, job.unique_key):
            raise QueueError(
                f"job {job.id!r} could not be enqueued: its queue id or unique key {job.unique_key!r} "
                "is held by a queue row that no tool_job belongs to; run maintenance"
            )
        now = self._now()
        self.queue_jobs[accepted.queue_id] = new_queue_row(accepted, now=now)
        self.tool_jobs[job.id] = row = new_tool_row(accepted, now=now)
        return Enqueued(tool_job_of(row), created=True)

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Create many jobs; nothing is written where one cannot be stored or its tool is unknown."""
        for job in jobs:
            accept(job)
        unknown = sorted({job.tool_slug for job in jobs} - self.tools)
        if unknown:
            raise UnknownToolError(f"no partition for {', '.join(map(repr, unknown))}; register the tool first")
        return [await self.enqueue(job) for job in jobs]

    async def claim(self, *, worker: str, tools: Sequence[str], limit: int = 1) -> list[Claim]:
        """Take up to `limit` due jobs; one whose JSON cannot be read is failed for good and left out."""
        now = self._now()
        due = [
            (row, queued)
            for row, queued in self._pairs(ToolJobStatus.PENDING)
            if queued.waiting and queued.name in tools and queued.start_after <= now
        ]
        due.sort(key=lambda pair: (-pair[1].priority, pair[1].created_on, pair[1].id))
        claims = []
        for row, queued in due[: max(limit, 0)]:
            held = replace(
                queued,
                state=QueueState.ACTIVE,
                retry_count=queued.retry_count + 1 if queued.state is QueueState.RETRY else 0,
                token=queued.token + 1,
                worker=escape_text(worker),
                started_on=now,
                lease_until=now + queued.expire_in,
            )
            self.queue_jobs[queued.id] = held
            shown = self._show(row, Event.CLAIM, at=now, attempts=held.attempts, token=held.token, started_at=now)
            lease_until = now + queued.expire_in
            try:
                claims.append(Claim(tool_job_of(shown, read=decode), held.token, lease_until, worker))
            except InvalidJsonError as error:
                unread = tool_job_of(replace(shown, input="null", output=None))
                reason = f"input cannot be read: {error}"
                await self.fail(Claim(unread, held.token, lease_until, worker), reason, final=True)
        return claims

    async def heartbeat(self, claim: Claim) -> bool:
        """Extend the lease by its full length from now."""
        queued = self.queue_jobs.get(claim.job.pgboss_job_id or "")
        if queued is None or queued.state is not QueueState.ACTIVE or queued.token != claim.token:
            return False
        self.queue_jobs[queued.id] = replace(queued, lease_until=self._now() + queued.expire_in)
        return True

    async def complete(self, claim: Claim, output: JsonValue) -> bool:
        """Settle the job as COMPLETED."""
        text = through_jsonb(encode(output))
        pair = self._held(claim)
        if pair is None:
            return False
        row, queued = pair
        now = self._now()
        self._end(queued, QueueState.COMPLETED, at=now)
        self._show(row, Event.COMPLETE, at=now, output=text, error=None, completed_at=now, expires_at=now + queued.keep)
        return True

    async def complete_many(self, settlements: Sequence[Settlement]) -> list[bool | InvalidJsonError]:
        """Complete many claims, each by itself."""
        answers: list[bool | InvalidJsonError] = []
        for settlement in settlements:
            try:
                answers.append(await self.complete(settlement.claim, settlement.output))
            except InvalidJsonError as error:
                answers.append(error)
        return answers

    async def fail(self, claim: Claim, error: str, *, final: bool = False) -> ToolJobStatus | None:
        """Settle the attempt as failed."""
        jitter = self._jitter()
        pair = self._held(claim)
        if pair is None:
            return None
        return self._take_back(*pair, error=error_text(error), jitter=jitter, final=final)

    async def release(self, claim: Claim) -> bool:
        """Give the job back unrun, the attempt uncounted."""
        pair = self._held(claim)
        if pair is None:
            return False
        row, queued = pair
        now = self._now()
        self.queue_jobs[queued.id] = released = replace(
            queued,
            state=QueueState.RETRY if queued.retry_count > 0 else QueueState.CREATED,
            retry_count=max(queued.retry_count - 1, 0),
            start_after=now,
            started_on=None,
            lease_until=None,
            worker=None,
        )
        self._show(row, Event.RELEASE, at=now, attempts=released.attempts, started_at=None)
        return True

    async def cancel(self, job_id: str) -> bool:
        """Move a PENDING or PROCESSING job to CANCELLED."""
        pair = self._pair(job_id)
        if pair is None or pair[0].status.terminal or not pair[1].unfinished:
            return False
        row, queued = pair
        now = self._now()
        self._end(queued, QueueState.CANCELLED, at=now)
        self._show(row, Event.CANCEL, at=now, completed_at=now, expires_at=now + queued.keep)
        return True

    async def retry(self, job_id: str) -> bool:
        """Open a new attempt budget; refused while another unfinished job holds the unique key."""
        pair = self._pair(job_id)
        if pair is None or step(pair[0].status, Event.RETRY) is None:
            return False
        row, queued = pair
        reopens = queued.state in (QueueState.FAILED, QueueState.CANCELLED)
        if not reopens or self._key_held(queued.name, queued.unique_key):
            return False
        now = self._now()
        self.queue_jobs[queued.id] = replace(
            queued,
            state=QueueState.CREATED,
            retry_count=0,
            start_after=now,
            started_on=None,
            completed_on=None,
        )
        self._show(
            row,
            Event.RETRY,
            at=now,
            attempts=0,
            output=None,
            error=None,
            started_at=None,
            completed_at=None,
            expires_at=None,
        )
        return True

    async def expire(self, *, limit: int = 1000) -> list[str]:
        """Take back every claim whose lease has run out."""
        now = self._now()
        overdue = [
            (queued.lease_until, queued.id, row, queued)
            for row, queued in self._pairs(ToolJobStatus.PROCESSING)
            if queued.state is QueueState.ACTIVE and queued.lease_until is not None and queued.lease_until <= now
        ]
        overdue.sort(key=lambda entry: entry[:2])
        return self._take_back_all(
            [(row, queued) for _, _, row, queued in overdue[: max(limit, 0)]],
            "The lease of worker {worker} ran out in attempt {attempt} of {attempts}.",
        )

    async def reconcile(self) -> list[str]:
        """Make both rows of every job agree again."""
        return reconcile_rows(self.tool_jobs, self.queue_jobs, tools=self.tools, now=self._now(), jitter=self._jitter())

    async def rescue_stuck(self, *, stuck_after: timedelta) -> list[str]:
        """Take back jobs PROCESSING for at least `stuck_after`."""
        latest = self._now() - stuck_after
        stuck = [
            (row, queued)
            for row, queued in self._pairs(ToolJobStatus.PROCESSING)
            if queued.state is QueueState.ACTIVE and queued.started_on is not None and queued.started_on <= latest
        ]
        return self._take_back_all(
            stuck, "Stuck: worker {worker} did not settle attempt {attempt} of {attempts} in time."
        )

    async def delete_expired(self, *, limit: int = 1000) -> list[str]:
        """Delete terminal jobs past `expiresAt`, both rows."""
        now = self._now()
        past = [
            (row.expires_at, row.id, queued.id)
            for row, queued in self._pairs(*(status for status in ToolJobStatus if status.terminal))
            if row.expires_at is not None and row.expires_at <= now and not queued.unfinished
        ]
        past = sorted(past)[: max(limit, 0)]
        for _, job_id, queue_id in past:
            del self.tool_jobs[job_id]
            del self.queue_jobs[queue_id]
        return sorted(job_id for _, job_id, _ in past)

    async def get(self, job_id: str) -> ToolJob | None:
        """Read one job."""
        row = self.tool_jobs.get(job_id)
        return None if row is None else tool_job_of(row)

    async def list_owned(
        self, *, user_id: str | None = None, session_id: str | None = None, limit: int = 100
    ) -> list[ToolJob]:
        """Read the jobs of one owner, newest first; none where no owner is named."""
        if user_id is None and session_id is None:
            return []
        of_any_session = user_id is not None and session_id is None
        owned = [
            row
            for row in self.tool_jobs.values()
            if user_id == row.user_id and (of_any_session or session_id == row.session_id)
        ]
        owned.sort(key=lambda row: (row.created_at or datetime.max.replace(tzinfo=UTC), row.id), reverse=True)
        return [tool_job_of(row) for row in owned[: max(limit, 0)]]

    async def next_due(self, *, tools: Sequence[str]) -> datetime | None:
        """Tell when the next job can be claimed."""
        now = self._now()
        waiting = [
            queued for _, queued in self._pairs(ToolJobStatus.PENDING) if queued.waiting and queued.name in tools
        ]
        due = [queued for queued in waiting if queued.start_after <= now]
        if due:
            return min(due, key=lambda queued: (-queued.priority, queued.created_on, queued.id)).start_after
        return min((queued.start_after for queued in waiting), default=None)

    async def rows(self) -> list[JobRow]:
        """Read both rows of every job, in the order of creation."""
        partnered = {queued.id for _, queued in self._pairs(*ToolJobStatus)}
        answers = []
        for row in self.tool_jobs.values():
            pair = self._pair(row.id)
            answers.append(job_row_of(row, None if pair is None else pair[1]))
        answers += [lone_queue_row(queued) for queued in self.queue_jobs.values() if queued.id not in partnered]
        answers.sort(key=lambda row: (row.created_at or datetime.max.replace(tzinfo=UTC), row.id))
        return answers

    def _pair(self, job_id: str) -> tuple[ToolRow, QueueRow] | None:
        row = self.tool_jobs.get(job_id)
        queued = None if row is None else self.queue_jobs.get(row.pgboss_job_id or "")
        if row is None or queued is None or queued.name != row.tool_slug:
            return None
        return row, queued

    def _pairs(self, *statuses: ToolJobStatus) -> Iterator[tuple[ToolRow, QueueRow]]:
        for row in self.tool_jobs.values():
            if row.status in statuses:
                queued = self.queue_jobs.get(row.pgboss_job_id or "")
                if queued is not None and queued.name == row.tool_slug:
                    yield row, queued

    def _held(self, claim: Claim) -> tuple[ToolRow, QueueRow] | None:
        """Find the rows of a claim that still stands: the fence of every settling verb."""
        pair = self._pair(claim.job.id)
        if pair is None:
            return None
        row, queued = pair
        stands = (
            queued.id == claim.job.pgboss_job_id
            and queued.state is QueueState.ACTIVE
            and queued.token == claim.token
            and row.status is ToolJobStatus.PROCESSING
        )
        return pair if stands else None

    def _standing(self, accepted: AcceptedJob) -> ToolRow | None:
        job = accepted.job
        row = self.tool_jobs.get(job.id)
        if row is not None or job.unique_key is None:
            return row
        for row, queued in self._pairs(*ToolJobStatus):
            if queued.name == job.tool_slug and queued.unique_key == job.unique_key and queued.unfinished:
                return row
        return None

    def _key_held(self, tool: str, unique_key: str | None) -> bool:
        return unique_key is not None and any(
            queued.name == tool and queued.unique_key == unique_key and queued.unfinished
            for queued in self.queue_jobs.values()
        )

    def _end(self, queued: QueueRow, state: QueueState, *, at: datetime) -> None:
        self.queue_jobs[queued.id] = replace(queued, state=state, completed_on=at, lease_until=None, worker=None)

    def _show(self, row: ToolRow, event: Event, *, at: datetime, **columns: object) -> ToolRow:
        status = step(row.status, event)
        if status is None:
            raise AssertionError(f"job {row.id!r}: no arrow leads from {row.status} by {event}")
        changed: ToolRow = replace(row, status=status, updated_at=at, **columns)  # type: ignore[arg-type]  # columns are ToolRow's own
        self.tool_jobs[row.id] = changed
        return changed

    def _take_back_all(self, pairs: list[tuple[ToolRow, QueueRow]], error: str) -> list[str]:
        jitter = self._jitter()
        for k, (row, queued) in enumerate(sorted(pairs, key=lambda pair: pair[0].id)):
            attempt, attempts = queued.retry_count + 1, queued.retry_limit + 1
            reason = error.format(worker=queued.worker or "unknown", attempt=attempt, attempts=attempts)
            self._take_back(row, queued, error=reason, jitter=spread(jitter, k))
        return sorted(row.id for row, _ in pairs)

    def _take_back(
        self, row: ToolRow, queued: QueueRow, *, error: str, jitter: float, final: bool = False
    ) -> ToolJobStatus:
        """Follow the arrows of a failed attempt."""
        now = self._now()
        if final or queued.retry_count >= queued.retry_limit:
            self._end(queued, QueueState.FAILED, at=now)
            shown = self._show(row, Event.EXHAUST, at=now, error=error, completed_at=now, expires_at=now + queued.keep)
            return shown.status
        wait = retry_after(
            queued.retry_delay,
            backoff=queued.retry_backoff,
            delay_max=queued.retry_delay_max,
            failures=queued.retry_count,
            jitter=jitter,
        )
        self.queue_jobs[queued.id] = replace(
            queued,
            state=QueueState.RETRY,
            start_after=now + wait,
            completed_on=None,
            lease_until=None,
            worker=None,
        )
        return self._show(row, Event.FAIL, at=now, error=error, completed_at=None, expires_at=None).status
