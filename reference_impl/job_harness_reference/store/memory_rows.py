"""The two rows of a job as the memory store keeps them: the columns of `public.tool_job` and `pgboss.job`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from job_harness_reference.json_values import decode_or_text, in_jsonb_order
from job_harness_reference.models import JobRow, JsonValue, QueueState, ToolJob, ToolJobStatus
from job_harness_reference.store.new_job import AcceptedJob

if TYPE_CHECKING:
    from dataclasses import replace as replace
else:

    def replace(row: Any, /, **columns: Any) -> Any:
        """Copy a row with other columns, as `dataclasses.replace` does in several times the time."""
        kind = type(row)
        copy = object.__new__(kind)
        for name, read, write in _slots(kind):
            write(copy, columns.pop(name) if name in columns else read(row))
        if columns:
            raise TypeError(f"{kind.__name__} has no column {', '.join(columns)}")
        return copy


@cache
def _slots(kind: type) -> tuple[tuple[str, Any, Any], ...]:
    slots = vars(kind)
    return tuple((name, slots[name].__get__, slots[name].__set__) for name in slots["__slots__"])


@dataclass(frozen=True, slots=True)
class ToolRow:
    """One row of `public.tool_job`; JSON is kept as text, so that no caller shares a value with the store."""

    id: str
    tool_slug: str
    status: ToolJobStatus
    input: str
    output: str | None = None
    error: str | None = None
    priority: int = 0
    user_id: str | None = None
    session_id: str | None = None
    pgboss_job_id: str | None = None
    attempts: int = 0
    max_attempts: int = 3
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    token: int = 0


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One row of `pgboss.job`, with the defaults of its columns."""

    id: str
    name: str
    data: JsonValue
    start_after: datetime
    created_on: datetime
    state: QueueState = QueueState.CREATED
    priority: int = 0
    retry_limit: int = 3
    retry_count: int = 0
    expire_in: timedelta = timedelta(minutes=10)
    token: int = 0
    worker: str | None = None
    lease_until: datetime | None = None
    retry_delay: timedelta = timedelta(minutes=1)
    retry_backoff: bool = True
    retry_delay_max: timedelta = timedelta(hours=1)
    unique_key: str | None = None
    started_on: datetime | None = None
    completed_on: datetime | None = None
    keep: timedelta = timedelta(days=7)

    @property
    def attempts(self) -> int:
        """The attempts of this budget that were claimed, as far as an unfinished row tells."""
        return 0 if self.state is QueueState.CREATED else self.retry_count + 1

    @property
    def waiting(self) -> bool:
        """Whether a claim may take it once it is due."""
        return self.state in (QueueState.CREATED, QueueState.RETRY)

    @property
    def unfinished(self) -> bool:
        """Whether it still holds its unique key."""
        return self.waiting or self.state is QueueState.ACTIVE


def names(data: JsonValue) -> str | None:
    """Read `toolJobId` out of a queue row's data as PostgreSQL's `->>` does: `None` for anything spoilt."""
    found = data.get("toolJobId") if isinstance(data, dict) else None
    return found if isinstance(found, str) else None


def tool_job_of(row: ToolRow, *, read: Callable[[str], JsonValue] = decode_or_text) -> ToolJob:
    """Read a job as its user sees it; JSON that Python cannot hold is given as its text, or as `read` has it."""
    return ToolJob(
        id=row.id,
        tool_slug=row.tool_slug,
        status=row.status,
        input=read(row.input),
        output=None if row.output is None else read(row.output),
        error=row.error,
        priority=row.priority,
        user_id=row.user_id,
        session_id=row.session_id,
        pgboss_job_id=row.pgboss_job_id,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        started_at=row.started_at,
        completed_at=row.completed_at,
        expires_at=row.expires_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def job_row_of(shown: ToolRow, queued: QueueRow | None) -> JobRow:
    """Put a job's rows side by side."""
    return JobRow(
        id=shown.id,
        tool_slug=shown.tool_slug,
        status=shown.status,
        queue_state=None if queued is None else queued.state,
        priority=shown.priority,
        attempts=shown.attempts,
        max_attempts=shown.max_attempts,
        token=max(shown.token, 0 if queued is None else queued.token),
        worker=None if queued is None else queued.worker,
        output=None if shown.output is None else decode_or_text(shown.output),
        error=shown.error,
        unique_key=None if queued is None else queued.unique_key,
        created_at=shown.created_at,
        start_after=None if queued is None else queued.start_after,
        started_at=shown.started_at,
        lease_until=None if queued is None else queued.lease_until,
        completed_at=shown.completed_at,
        expires_at=shown.expires_at,
    )


def lone_queue_row(queued: QueueRow) -> JobRow:
    """Show a queue row that no tool_job belongs to."""
    return JobRow(
        id=names(queued.data) or queued.id,
        tool_slug=queued.name,
        status=None,
        queue_state=queued.state,
        priority=queued.priority,
        attempts=0,
        max_attempts=queued.retry_limit + 1,
        token=queued.token,
        worker=queued.worker,
        output=None,
        error=None,
        unique_key=queued.unique_key,
        created_at=queued.created_on,
        start_after=queued.start_after,
        started_at=queued.started_on,
        lease_until=queued.lease_until,
        completed_at=queued.completed_on,
        expires_at=None,
    )


def new_queue_row(accepted: AcceptedJob, *, now: datetime) -> QueueRow:
    """Make the queue's row of a new job."""
    job = accepted.job
    return QueueRow(
        id=accepted.queue_id,
        name=job.tool_slug,
        data={"toolJobId": job.id},
        start_after=now if job.start_after is None else job.start_after.astimezone(UTC),
        created_on=now,
        priority=job.priority,
        retry_limit=job.max_attempts - 1,
        expire_in=job.lease,
        retry_delay=job.retry_delay,
        retry_backoff=job.retry_backoff,
        retry_delay_max=job.retry_delay_max,
        unique_key=job.unique_key,
        keep=job.retention,
    )


def new_tool_row(accepted: AcceptedJob, *, now: datetime) -> ToolRow:
    """Make the user's row of a new job."""
    job = accepted.job
    return ToolRow(
        id=job.id,
        tool_slug=job.tool_slug,
        status=ToolJobStatus.PENDING,
        input=in_jsonb_order(accepted.input),
        priority=job.priority,
        user_id=job.user_id,
        session_id=job.session_id,
        pgboss_job_id=accepted.queue_id,
        max_attempts=job.max_attempts,
        created_at=now,
        updated_at=now,
    )


@dataclass(frozen=True, slots=True)
class MemorySnapshot:
    """All that a memory store holds at one moment."""

    tools: frozenset[str]
    tool_jobs: dict[str, ToolRow]
    queue_jobs: dict[str, QueueRow]
