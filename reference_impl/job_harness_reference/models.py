"""The values that travel between store, queue, worker and API. Knows no SQL, no HTTP and no clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

JsonValue: TypeAlias = Any
"""What PostgreSQL's JSONB can hold: null, bool, int, finite float, text without NUL or lone surrogate, list, object."""


class ToolJobStatus(StrEnum):
    """What a user sees in `public.tool_job`."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        """Whether only an operator's retry leads out of it."""
        return self in (ToolJobStatus.COMPLETED, ToolJobStatus.FAILED, ToolJobStatus.CANCELLED)


class QueueState(StrEnum):
    """What the queue keeps in `pgboss.job`."""

    CREATED = "created"
    RETRY = "retry"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ToolJob:
    """One row of `public.tool_job`, as a processor receives it."""

    id: str
    tool_slug: str
    status: ToolJobStatus
    input: JsonValue
    output: JsonValue = None
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

    if not TYPE_CHECKING:  # A checker would take every name for one that there is.

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"'ToolJob' object has no attribute {name!r}: what was enqueued is in `input`")


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request to create a job: both rows are written from it in one transaction."""

    tool_slug: str
    input: JsonValue
    id: str
    queue_id: str
    user_id: str | None = None
    session_id: str | None = None
    priority: int = 0
    max_attempts: int = 3
    start_after: datetime | None = None
    """Not claimed before this instant; `None` means at once."""
    unique_key: str | None = None
    """At most one job that is not terminal per tool and key; a second enqueue answers with the first job."""
    lease: timedelta = timedelta(minutes=11)
    """`expire_in`: how long a claim lasts without a heartbeat."""
    retry_delay: timedelta = timedelta(seconds=60)
    retry_backoff: bool = True
    """Doubles the delay with each attempt, plus jitter; otherwise the delay is constant and exact."""
    retry_delay_max: timedelta = timedelta(hours=1)
    retention: timedelta = timedelta(days=7)
    """How long a terminal job is kept: `expiresAt` is set to that when it becomes terminal."""


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The answer to an enqueue."""

    job: ToolJob
    created: bool
    """False where an unfinished job with the same unique key stood in its place."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to settle one attempt of one job.

    The token rises with every claim of the job and never goes back; a verb that presents an old one
    changes nothing.
    """

    job: ToolJob
    token: int
    lease_until: datetime
    worker: str


@dataclass(frozen=True, slots=True)
class JobRow:
    """Both rows of a job side by side; one half is `None` throughout where its row is missing."""

    id: str
    """`tool_job.id`, or `data.toolJobId` of a queue row without partner."""
    tool_slug: str
    status: ToolJobStatus | None
    queue_state: QueueState | None
    priority: int
    attempts: int
    max_attempts: int
    token: int
    worker: str | None
    output: JsonValue
    error: str | None
    unique_key: str | None
    created_at: datetime | None
    start_after: datetime | None
    started_at: datetime | None
    lease_until: datetime | None
    completed_at: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a processor answers; a dict of the same keys is understood as well.

    `retryable=False` declares the error final: no attempt is left to it.
    """

    success: bool
    output: JsonValue = None
    error: str | None = None
    retryable: bool = True


class NonRetryableError(Exception):
    """Raise it in a processor to fail the job at once, whatever attempts are left."""


Answered: TypeAlias = "JobResult | dict[str, Any]"
"""What a processor may return; a dict has the keys of a JobResult."""
JobProcessor: TypeAlias = Callable[[ToolJob], "Awaitable[Answered] | Answered"]
"""A processor: a coroutine function, or a plain function that the worker runs on a thread."""


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What one maintenance run changed, by job id."""

    reconciled: tuple[str, ...] = ()
    rescued: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    deleted: tuple[str, ...] = field(default=())
