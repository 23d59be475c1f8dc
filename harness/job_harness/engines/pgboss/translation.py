"""Between this project and pg-boss's rows: ids, times, payloads, keys and views, and in which turns queues are fetched.

A job without a key is sent with its own id as `singletonKey`, so that a policy concerns named keys
alone: pg-boss takes jobs that have none to share one. A serial key holds whatever the tool, and
pg-boss counts within a queue: where there are serial keys all tools share one queue, and the tool
is told beside the input. Holds no state, knows no database.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from job_harness.core.model import SECOND, Duration, Instant, JobId, JobView, Json, QueueState, Settings, Status
from job_harness.core.port import JobRequest
from job_harness.engines.pgboss.contract import STANDARD, Policy
from job_harness.worlds.wire.database import instant_of, timestamp_of

ONE_QUEUE: Final = "jobs"


@dataclass(frozen=True, slots=True)
class PgBossKeys:
    """What the keys of a job are to the queues of one release under one policy."""

    policy: Policy = STANDARD
    groups: bool = False
    """The release can limit how many jobs of a group run at once: a serial key is a group of one."""

    @property
    def serial(self) -> bool:
        """Whether serial keys are kept."""
        return self.policy.serial or self.groups

    def queue(self, tool: str) -> str:
        """Return the queue of a tool's jobs."""
        return ONE_QUEUE if self.serial else tool

    def data(self, request: JobRequest) -> dict[str, Json]:
        """Return the payload that carries a request's input."""
        told = {"job": request.id, "input": request.input}
        return {**told, "tool": request.tool} if self.serial else told

    def singleton(self, request: JobRequest, *, own: str) -> str | None:
        """Return the `singletonKey` of a request; `own` is the id of its row."""
        if self.policy is STANDARD:
            return None
        key = request.unique_key if self.policy.unique else request.serial_key
        return own if key is None else key

    def group(self, request: JobRequest) -> str | None:
        """Return the group of a request."""
        return request.serial_key if self.groups else None

    def unique_key(self, row: Mapping[str, Any]) -> str | None:
        """Return the unique key of a row."""
        return _user_key(row) if self.policy.unique else None

    def serial_key(self, row: Mapping[str, Any]) -> str | None:
        """Return the serial key of a row."""
        return _user_key(row) if self.policy.serial else row.get("group_id")


def tool_of(row: Mapping[str, Any]) -> str:
    """Return the tool of a row: what its payload says, else its queue."""
    tool: str = row["data"].get("tool", row["name"])
    return tool


def _user_key(row: Mapping[str, Any]) -> str | None:
    key: str | None = row["singleton_key"]
    return None if key == str(row["id"]) else key


STRICTLY: Final[Duration] = 1
"""pg-boss compares strictly: what starts at t is first fetched, and what expires at t first taken back, a microsecond
later. On a real server no two statements share a microsecond, so that what is sent at t is sent one before it."""
PLAIN: Final = PgBossKeys()
KEPT_WAITING: Final = 60 * 365 * 24 * 3600
"""Seconds: pg-boss drops what waits for longer (docs: api/jobs, send, Retention options), and `retention` is about jobs
that ended. Its column is an integer."""
ID, DATA, KEEP_UNTIL, RETRY_LIMIT = 0, 2, 11, 13
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


def send_options(
    request: JobRequest, settings: Settings, *, id: str, keys: PgBossKeys, keeps_queues: bool
) -> dict[str, Any]:
    """Return the options of `send`: a handler has the lease to end in. `keeps_queues` is version 10."""
    options: dict[str, Any] = {
        "id": id,
        "priority": request.priority,
        "retryLimit": (request.max_attempts or settings.max_attempts) - 1,
        "retryDelay": seconds_of(settings.retry_delay),
        "retryBackoff": settings.retry_backoff,
        "expireInSeconds": seconds_of(settings.lease),
        "retentionSeconds": KEPT_WAITING,
    }
    if request.start_after is not None:
        options["startAfter"] = send_time(request.start_after)
    if (key := keys.singleton(request, own=options["id"])) is not None:
        options["singletonKey"] = key
    if not keeps_queues:
        options["deleteAfterSeconds"] = seconds_of(settings.retention)
        if settings.retry_backoff:
            options["retryDelayMax"] = seconds_of(settings.retry_delay_max)
    return options


def send_values(request: JobRequest, settings: Settings, keys: PgBossKeys = PLAIN) -> list[Any]:
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

    JavaScript would write null for NaN; what another client's serialiser makes of a value is not
    for us to guess.
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
    keys: PgBossKeys = PLAIN,
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


WAITING: Final = frozenset({"created", "retry"})


def turns(
    rows: Iterable[Mapping[str, Any]], queues: Sequence[str], *, now: Instant, strictly: Duration, limit: int
) -> list[tuple[str, int]]:
    """Return queues in turn, each with the most to fetch, so that together they give what one queue would.

    `strictly`: how long after its time a job can be fetched. Where a fetch gives less than was expected, what is
    missing may come from any queue: each has a last turn for that.
    """
    if len(queues) < 2:
        return [(queue, limit) for queue in queues]
    due = [row for row in rows if row["state"] in WAITING and (instant_of(row["start_after"]) or 0) + strictly <= now]
    due.sort(key=lambda row: (-row["priority"], row["created_on"], row["id"]))
    order = [(name, len(list(run))) for name, run in groupby(row["name"] for row in due[:limit])]
    return [*order, *((queue, limit) for queue in queues)]
