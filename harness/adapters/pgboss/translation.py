"""Between the harness's values and pg-boss's: instants, ids, options of a job, rows. Holds no state."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from harness.adapters.pgboss.keys import Keys, tool_of
from harness.foreign.database import instant_of, timestamp_of
from harness.model.duration import SECOND, Duration, Instant
from harness.model.job import JobId, JobView, Json
from harness.model.lifecycle import QueueState, Status
from harness.model.settings import Settings
from harness.port import JobRequest

STRICTLY: Final[Duration] = 1
"""pg-boss compares strictly: what starts at t is first fetched, and what expires at t first taken back, a microsecond
later. On a real server no two statements share a microsecond, so that what is sent at t is sent one before it."""
PLAIN: Final = Keys()
KEPT_WAITING: Final = 60 * 365 * 24 * 3600
"""Seconds: pg-boss drops what waits for longer (docs: api/jobs, send, Retention options), and `retention` is about jobs
that ended. Its column is an integer."""
DATA, KEEP_UNTIL, RETRY_LIMIT = 2, 11, 13
"""Where these stand among the parameters of `send`."""
_STATUS: Final = {
    "created": Status.PENDING,
    "retry": Status.PENDING,
    "active": Status.PROCESSING,
    "completed": Status.COMPLETED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELLED,
}


def uuid_of(job: JobId) -> str:
    """Return the UUID of a job; equal names sort as their jobs do, up to 16 bytes."""
    raw = job.encode("utf-8", "surrogatepass")
    if len(raw) > 16:
        raw = raw[:11] + hashlib.sha256(raw).digest()[:5]
    return str(uuid.UUID(bytes=raw.ljust(16, b"\0")))


def seconds_of(duration: Duration) -> int:
    """Return whole seconds, rounded up: pg-boss knows no shorter unit for a delay."""
    return -(-duration // SECOND)


def send_time(instant: Instant) -> str:
    """Return an instant as pg-boss takes it in text, to the microsecond."""
    return timestamp_of(instant).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def send_values(request: JobRequest, settings: Settings, keys: Keys = PLAIN) -> list[Any]:
    """Return the parameters of `send`, as the library's manager would order them."""
    attempts = request.max_attempts or settings.max_attempts
    return [
        uuid_of(request.id),
        keys.queue(request.tool),
        json_text(keys.data(request)),
        request.priority,
        None if request.start_after is None else send_time(request.start_after),
        keys.singleton(request, own=uuid_of(request.id)),
        None,  # singleton seconds
        0,  # singleton offset
        None,  # dead letter
        str(settings.lease / SECOND),
        None,
        f"{KEPT_WAITING} seconds",
        None,
        attempts - 1,
        None,
        seconds_of(settings.retry_delay),
        None,
        settings.retry_backoff,
        None,
    ]


def json_text(value: Json) -> str:
    """Return JSON. Raises TypeError, ValueError for what JSON cannot hold.

    JavaScript would write null for NaN; what another client's serialiser makes of a value is not for us to guess.
    """
    return json.dumps(value, allow_nan=False)


def result_text(value: Json) -> str | None:
    """Return what the library stores as a result: an object as it is, anything else under `value`."""
    if value is None:
        return None
    return json_text(value if isinstance(value, Mapping) else {"value": value})


def view_of(
    row: Mapping[str, Any],
    *,
    worker: str | None,
    granted: int,
    strictly: Duration = STRICTLY,
    keys: Keys = PLAIN,
) -> JobView:
    """Return a row as an observer sees it. The attempt is counted from the first fetch; it tells claims apart.

    `granted` is the number of the last attempt that an operator allowed by a resume, which moves no limit; `strictly`,
    how long after its time a job can be fetched.
    """
    state = row["state"]
    attempts = 0 if row["started_on"] is None else row["retry_count"] + 1
    active = state == "active"
    output = row["output"]
    failed = output is not None and state in ("retry", "failed")
    started = row["started_on"]
    return JobView(
        id=row["data"]["job"],
        tool=tool_of(row),
        status=_STATUS[state],
        queue_state=QueueState(state),
        priority=row["priority"],
        attempts=attempts,
        max_attempts=max(row["retry_limit"] + 1, granted),
        token=attempts,
        worker=worker if active else None,
        output=_unwrapped(output) if state == "completed" else None,
        error=_message(output) if failed else None,
        unique_key=keys.unique_key(row),
        serial_key=keys.serial_key(row),
        created_at=(instant_of(row["created_on"]) or 0) + strictly,
        start_after=(instant_of(row["start_after"]) or 0) + strictly,
        started_at=instant_of(started) if active or state in ("completed", "failed") else None,
        lease_until=(instant_of(started + row["expire_in"]) or 0) + STRICTLY if active else None,
        completed_at=instant_of(row["completed_on"]),
        expires_at=None,
    )


def _unwrapped(output: Any) -> Json:
    return output["value"] if isinstance(output, dict) and list(output) == ["value"] else output


def _message(output: Any) -> str:
    inner = output.get("value", output) if isinstance(output, dict) else output
    return str(inner.get("message", inner)) if isinstance(inner, dict) else str(inner)
