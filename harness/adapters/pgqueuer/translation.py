"""Between PgQueuer's rows and the harness's views. Holds no state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from harness.foreign.database import instant_of
from harness.model.duration import Duration
from harness.model.job import JobId, JobView
from harness.model.lifecycle import QueueState, Status

LOOK: Final = b"""
SELECT l.job_id, l.entrypoint, l.priority, l.picks, l.created_at, l.picked_at, l.last_status, l.last_at, l.error,
       q.status::text AS status, q.execute_after, q.heartbeat, q.dedupe_key
FROM (SELECT job_id, min(entrypoint) AS entrypoint, max(priority) AS priority,
             count(*) FILTER (WHERE status = 'picked') AS picks, (array_agg(created ORDER BY id))[1] AS created_at,
             (array_agg(created ORDER BY id DESC) FILTER (WHERE status = 'picked'))[1] AS picked_at,
             (array_agg(status::text ORDER BY id DESC))[1] AS last_status,
             (array_agg(created ORDER BY id DESC))[1] AS last_at,
             (array_agg(traceback->>'exception_message' ORDER BY id DESC)
              FILTER (WHERE traceback IS NOT NULL))[1] AS error
      FROM pgqueuer_log GROUP BY job_id) l
LEFT JOIN pgqueuer q ON q.id = l.job_id
ORDER BY l.job_id
"""
PICKS: Final = b"""
SELECT job_id, count(*) AS picks FROM pgqueuer_log WHERE status = 'picked' AND job_id = ANY($1) GROUP BY job_id
"""
CANCELLED: Final = b"SELECT 1 FROM pgqueuer_log WHERE job_id = $1 AND status = 'canceled'"
STALE: Final = b"SELECT id, heartbeat FROM pgqueuer WHERE status = 'picked' AND heartbeat < now() - $1::interval"
STRICTLY: Final[Duration] = 1
"""PgQueuer compares strictly: what is due at t is first dequeued a microsecond later. On a real server no two
statements share a microsecond, so that what is sent at t is sent one before it."""
_STATES: Final = {
    "queued": (Status.PENDING, QueueState.CREATED),
    "picked": (Status.PROCESSING, QueueState.ACTIVE),
    "successful": (Status.COMPLETED, QueueState.COMPLETED),
    "failed": (Status.FAILED, QueueState.FAILED),
    "exception": (Status.FAILED, QueueState.FAILED),
    "canceled": (Status.CANCELLED, QueueState.CANCELLED),
    "deleted": (Status.CANCELLED, QueueState.CANCELLED),
}


class Known(NamedTuple):
    """What the rows do not tell of a job."""

    id: JobId
    most: int
    unique_key: str | None
    forgiven: int = 0
    """How often it was picked before an operator requeued it."""


def view_of(row: Mapping[str, Any], known: Known, *, lease: Duration, worker: str | None, stale: bool) -> JobView:
    """Answer a row, and where it is gone the log of it, as an observer sees it.

    PgQueuer's `attempts` counts retries that were asked for; the view counts how often the job was picked. What is
    `stale` stays picked in the row, and waits in the view: the next one that dequeues may have it.
    """
    status, state = _STATES["queued" if stale else row["status"] or row["last_status"]]
    waits, runs = status is Status.PENDING, status is Status.PROCESSING
    attempts = row["picks"] - known.forgiven
    created = (instant_of(row["created_at"]) or 0) + STRICTLY
    due, heartbeat = instant_of(row["execute_after"]), instant_of(row["heartbeat"])
    return JobView(
        id=known.id,
        tool=row["entrypoint"],
        status=status,
        queue_state=QueueState.RETRY if waits and attempts else state,
        priority=row["priority"],
        attempts=attempts,
        max_attempts=known.most,
        token=row["picks"],
        worker=worker if runs else None,
        output=None,
        error=row["error"] if waits or status is Status.FAILED else None,
        unique_key=known.unique_key,
        created_at=created,
        start_after=created if due is None else due + STRICTLY,
        started_at=None if waits else instant_of(row["picked_at"]),
        lease_until=heartbeat + lease + STRICTLY if runs and heartbeat is not None else None,
        completed_at=None if waits or runs else instant_of(row["last_at"]),
        expires_at=None,
    )
