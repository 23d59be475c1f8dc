"""From a row of PostgreSQL to the values that travel. Each is read by itself: a spoilt one harms no other."""

from __future__ import annotations

from datetime import UTC, datetime

from reference_impl.errors import InvalidJsonError
from reference_impl.json_values import decode
from reference_impl.models import Claim, JobRow, JsonValue, QueueState, ToolJob, ToolJobStatus
from reference_impl.store.database import Row


def _utc(instant: datetime | None) -> datetime | None:
    return None if instant is None else instant.astimezone(UTC)


def _json(text: str | None) -> JsonValue:
    return None if text is None else decode(text)


def _json_or_text(text: str | None) -> JsonValue:
    try:
        return _json(text)
    except InvalidJsonError:
        return text


def tool_job_of(row: Row) -> ToolJob:
    """Read a `tool_job`. Raises `InvalidJsonError` where its JSON cannot be read."""
    return ToolJob(
        id=row["id"],
        tool_slug=row["tool_slug"],
        status=ToolJobStatus(row["status"]),
        input=_json(row["input"]),
        output=_json(row["output"]),
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
    return Claim(tool_job_of(row), row["token"], lease_until.astimezone(UTC), worker)


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
        output=_json_or_text(row["output"]),
        error=row["error"],
        unique_key=row["unique_key"],
        created_at=_utc(row["created_at"]),
        start_after=_utc(row["start_after"]),
        started_at=_utc(row["started_at"]),
        lease_until=_utc(row["lease_until"]),
        completed_at=_utc(row["completed_at"]),
        expires_at=_utc(row["expires_at"]),
    )
