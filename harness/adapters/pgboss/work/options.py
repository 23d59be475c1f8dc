"""What a job and a worker are told to pg-boss as: the harness's settings in its options. Holds no state."""

from __future__ import annotations

from typing import Any

from harness.adapters.pgboss.translation import KEPT_WAITING, PgBossKeys, seconds_of, send_time, uuid_of
from harness.errors import UsageError
from harness.model.duration import MILLISECOND, SECOND
from harness.model.settings import Settings
from harness.port import JobRequest


def send_options(request: JobRequest, settings: Settings, *, keys: PgBossKeys, keeps_queues: bool) -> dict[str, Any]:
    """Answer the options of `send`: a handler has the lease to end in. `keeps_queues` is version 10."""
    options: dict[str, Any] = {
        "id": uuid_of(request.id),
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


def work_options(settings: Settings) -> dict[str, Any]:
    """Answer the options of `work`, and the period of its polls in milliseconds.

    Raises UsageError for limits that a worker of pg-boss does not keep.
    """
    if settings.concurrency or settings.tool_concurrency:
        raise UsageError(
            "pg-boss's work() keeps no limit on how many jobs run at once over all workers",
            hint="Leave concurrency and tool_concurrency out, or run this test on --job-engine=memory.",
        )
    seconds = settings.poll_interval / SECOND
    return {
        "options": {"batchSize": settings.batch_size, "pollingIntervalSeconds": seconds},
        "period": settings.poll_interval / MILLISECOND,
    }
