"""Between the harness's values and the reference's: instants, ids, requests, rows. Holds no state."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final, overload

from harness.model.duration import Duration, Instant
from harness.model.job import JobId, JobView
from harness.model.lifecycle import QueueState, Status
from harness.model.settings import Settings
from harness.port import Claim, JobRequest
from reference_impl.models import Claim as StoreClaim
from reference_impl.models import JobRow, NewJob, ToolJob, ToolJobStatus

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
def instant_of(timestamp: datetime) -> Instant: ...
@overload
def instant_of(timestamp: datetime | None) -> Instant | None: ...
def instant_of(timestamp: datetime | None) -> Instant | None:
    """Return the instant of a store's timestamp."""
    return None if timestamp is None else (timestamp - ORIGIN) // _MICROSECOND


def length_of(duration: Duration) -> timedelta:
    """Return a duration as the store takes it."""
    return timedelta(microseconds=duration)


def queue_id_of(job: JobId) -> str:
    """Return the UUID of a job's queue row: its id's bytes, so that queue rows sort as their jobs do.

    Of an id longer than 16 bytes the first 11 count for the order; a digest keeps any two apart.
    """
    raw = job.encode("utf-8", "surrogatepass")
    if len(raw) > _ID_BYTES:
        raw = raw[:_KEPT_BYTES] + hashlib.sha256(raw).digest()[: _ID_BYTES - _KEPT_BYTES]
    return str(uuid.UUID(bytes=raw.ljust(_ID_BYTES, b"\0")))


def new_job_of(request: JobRequest, settings: Settings) -> NewJob:
    """Return what the store is asked to create; what the request leaves open comes from the settings."""
    return NewJob(
        tool_slug=request.tool,
        input=request.input,
        id=request.id,
        queue_id=queue_id_of(request.id),
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


def view_of(row: JobRow) -> JobView:
    """Return both rows of a job as an observer sees them.

    A row that lost its instant of creation counts as of the run's start, one without a start as due when created.
    """
    created_at = 0 if row.created_at is None else instant_of(row.created_at)
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
        start_after=created_at if row.start_after is None else instant_of(row.start_after),
        started_at=instant_of(row.started_at),
        lease_until=instant_of(row.lease_until),
        completed_at=instant_of(row.completed_at),
        expires_at=instant_of(row.expires_at),
    )
