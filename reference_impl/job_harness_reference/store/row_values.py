"""From a row of PostgreSQL to the values that travel. Each is read by itself: a spoilt one harms no other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from job_harness_reference.json_values import decode, decode_or_text
from job_harness_reference.models import Claim, JobRow, JsonValue, QueueState, ToolJob, ToolJobStatus
from job_harness_reference.store.database import Row


def _utc(instant: datetime | None) -> datetime | None:
    return None if instant is None else instant.astimezone(UTC)


def tool_job_of(row: Row, *, read: Callable[[str], JsonValue] = decode_or_text) -> ToolJob:
    """Read a `tool_job` as its user sees it; JSON that Python cannot hold is given as its text, or as `read` has it."""
    return ToolJob(
        id=row["id"],
        tool_slug=row["tool_slug"],
        status=ToolJobStatus(row["status"]),
        input=read(row["input"]),
        output=None if row["output"] is None else read(row["output"]),
        error=row["error"],
        priority=row["priority"],
        user_id=row["user_id"],
        session_id=row["session_id"],
        pgboss_job_id=row["pgboss_job_id"],
        attempts=row["attempts"],
        max_attempts=row["max_attempts"],
        started_at=_utc(row["started_at"]),
        completed_at=_utc(row["completed_at"]),
        expires_at=_utc(row["expires_at"]),
        created_at=_utc(row["created_at"]),
        updated_at=_utc(row["updated_at"]),
    )


def claim_of(row: Row, *, worker: str) -> Claim:
    """Read a claim. Raises `InvalidJsonError` where the job's JSON cannot be read."""
    lease_until: datetime = row["lease_until"]
    return Claim(tool_job_of(row, read=decode), row["token"], lease_until.astimezone(UTC), worker)


def job_row_of(row: Row) -> JobRow:
    """Read both rows of a job side by side; output that Python cannot hold is given as its text."""
    status, state = row["status"], row["queue_state"]
    return JobRow(
        id=row["id"],
        tool_slug=row["tool_slug"],
        status=None if status is None else ToolJobStatus(status),
        queue_state=None if state is None else QueueState(state),
        priority=row["priority"],
        attempts=row["attempts"],
        max_attempts=row["max_attempts"],
        token=row["token"],
        worker=row["worker"],
        output=None if row["output"] is None else decode_or_text(row["output"]),
        error=row["error"],
        unique_key=row["unique_key"],
        created_at=_utc(row["created_at"]),
        start_after=_utc(row["start_after"]),
        started_at=_utc(row["started_at"]),
        lease_until=_utc(row["lease_until"]),
        completed_at=_utc(row["completed_at"]),
        expires_at=_utc(row["expires_at"]),
    )
