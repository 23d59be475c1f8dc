"""Between graphile-worker's rows and the harness's views. Holds no state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.adapters.graphile.contract import LEASE
from harness.foreign.database import instant_of
from harness.model.duration import Duration, Instant
from harness.model.job import JobView
from harness.model.lifecycle import QueueState, Status

LOOK: Final = b"""
SELECT j.id::text AS number, t.identifier, q.queue_name, j.payload, j.priority, j.run_at, j.attempts, j.max_attempts,
       j.last_error, j.created_at, j.key, j.locked_at, j.locked_by
FROM graphile_worker._private_jobs j
JOIN graphile_worker._private_tasks t ON t.id = j.task_id
LEFT JOIN graphile_worker._private_job_queues q ON q.id = j.job_queue_id
ORDER BY j.id
"""
STRICTLY: Final[Duration] = 1
"""A lock is too old strictly after four hours, a microsecond later."""
_STATES: Final = {
    Status.PROCESSING: QueueState.ACTIVE,
    Status.FAILED: QueueState.FAILED,
    Status.PENDING: QueueState.CREATED,
}


def view_of(row: Mapping[str, Any], *, worker: str | None, failed_at: Instant) -> JobView:
    """Answer a row as an observer sees it. The attempt is counted at the claim; it tells claims apart.

    When it failed for good is not kept; `failed_at` is when that was seen first.
    """
    locked = instant_of(row["locked_at"])
    spent = row["attempts"] >= row["max_attempts"]
    status = Status.PROCESSING if locked is not None else Status.FAILED if spent else Status.PENDING
    waits_again = status is Status.PENDING and row["attempts"]
    return JobView(
        id=row["payload"]["job"],
        tool=row["identifier"],
        status=status,
        queue_state=QueueState.RETRY if waits_again else _STATES[status],
        priority=-row["priority"],
        attempts=row["attempts"],
        max_attempts=row["max_attempts"],
        token=row["attempts"],
        worker=worker if locked is not None else None,
        output=None,
        error=row["last_error"] if status is not Status.PROCESSING else None,
        unique_key=row["key"],
        created_at=instant_of(row["created_at"]) or 0,
        start_after=instant_of(row["run_at"]) or 0,
        started_at=locked,
        lease_until=None if locked is None else locked + LEASE + STRICTLY,
        completed_at=failed_at if status is Status.FAILED else None,
        expires_at=None,
        serial_key=row["queue_name"],
    )


def deleted(view: JobView, status: Status, now: Instant) -> JobView:
    """Answer what became of a job whose row was deleted: that is how a job ends here."""
    state = QueueState.CANCELLED if status is Status.CANCELLED else QueueState.COMPLETED
    return view._replace(status=status, queue_state=state, worker=None, error=None, lease_until=None, completed_at=now)
