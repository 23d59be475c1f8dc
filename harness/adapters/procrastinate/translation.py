"""Between procrastinate's rows and the harness's views. Holds no state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.foreign.database import instant_of
from harness.model.duration import DAY, Duration, Instant
from harness.model.job import JobView
from harness.model.lifecycle import QueueState, Status
from harness.port import JobRequest

LOOK: Final = b"""
SELECT j.id, j.task_name, j.status::text AS status, j.priority, j.lock, j.queueing_lock, j.args, j.scheduled_at,
       j.attempts, j.worker_id, w.last_heartbeat,
       (SELECT min(at) FROM procrastinate_events e WHERE e.job_id = j.id AND e.type = 'deferred') AS created_at,
       (SELECT max(at) FROM procrastinate_events e WHERE e.job_id = j.id AND e.type = 'started') AS started_at,
       (SELECT max(at) FROM procrastinate_events e
         WHERE e.job_id = j.id AND e.type IN ('succeeded', 'failed', 'cancelled', 'aborted')) AS completed_at
FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
ORDER BY j.id
"""
_STATES: Final = {
    "todo": (Status.PENDING, QueueState.CREATED),
    "doing": (Status.PROCESSING, QueueState.ACTIVE),
    "succeeded": (Status.COMPLETED, QueueState.COMPLETED),
    "failed": (Status.FAILED, QueueState.FAILED),
    "cancelled": (Status.CANCELLED, QueueState.CANCELLED),
    "aborted": (Status.CANCELLED, QueueState.CANCELLED),
}
WHENEVER: Final[Instant] = -365 * DAY
"""A job without a time is due whatever the clock says, and a clock may go wrong before the start of a run."""
STRICTLY: Final[Duration] = 1
"""A worker is silent for too long strictly after the time, a microsecond later."""


def lock_of(request: JobRequest) -> str | None:
    """Answer the queueing lock of a request: one for all tasks, so that a tool's key is given with its name."""
    return None if request.unique_key is None else f"{request.tool} {request.unique_key}"


def view_of(row: Mapping[str, Any], *, most: int, lease: Duration, worker: str | None, by_hand: int) -> JobView:
    """Answer a row as an observer sees it.

    procrastinate counts an attempt when it ends, and a retry `by_hand` as well; the view counts deliveries, when they
    begin.
    """
    status, state = _STATES[row["status"]]
    running = status is Status.PROCESSING
    number = row["attempts"] + running
    attempts = number - by_hand
    heartbeat = instant_of(row["last_heartbeat"])
    lock = row["queueing_lock"]
    return JobView(
        id=row["args"]["job"],
        tool=row["task_name"],
        status=status,
        queue_state=QueueState.RETRY if status is Status.PENDING and attempts else state,
        priority=row["priority"],
        attempts=attempts,
        max_attempts=most,
        token=number,
        worker=worker if running else None,
        output=None,
        error=None,
        unique_key=None if lock is None else lock.removeprefix(f"{row['task_name']} "),
        created_at=instant_of(row["created_at"]) or 0,
        start_after=WHENEVER if row["scheduled_at"] is None else instant_of(row["scheduled_at"]) or 0,
        started_at=instant_of(row["started_at"]) if status is not Status.PENDING else None,
        lease_until=heartbeat + lease + STRICTLY if running and heartbeat is not None else None,
        completed_at=instant_of(row["completed_at"]) if status not in (Status.PENDING, Status.PROCESSING) else None,
        expires_at=None,
    )
