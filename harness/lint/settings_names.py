"""Which names stand for which setting, in which unit: `JOB_TIMEOUT_MS`, `expireInMinutes`, `retry_limit`."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_UNITS: Final = {
    "MS": 0.001,
    "MILLIS": 0.001,
    "MILLISECONDS": 0.001,
    "SECONDS": 1.0,
    "SEC": 1.0,
    "SECS": 1.0,
    "MINUTES": 60.0,
    "MINS": 60.0,
    "HOURS": 3600.0,
    "DAYS": 86400.0,
}


class Meaning(NamedTuple):
    """A setting, and the seconds that one unit of the name is; 1 for what is no duration."""

    setting: str
    unit: float


_DURATIONS: Final = {
    "JOB_TIMEOUT": "job_timeout",
    "STUCK_JOB_TIMEOUT": "stuck_timeout",
    "STUCK_TIMEOUT": "stuck_timeout",
    "JOB_STUCK_TIMEOUT": "stuck_timeout",
    "EXPIRE_IN": "expiry",
    "JOB_EXPIRE_IN": "expiry",
    "PGBOSS_EXPIRE_IN": "expiry",
    "JOB_EXPIRY": "expiry",
    "QUEUE_EXPIRY": "expiry",
    "RETRY_DELAY": "retry_delay",
    "JOB_RETRY_DELAY": "retry_delay",
    "PGBOSS_RETRY_DELAY": "retry_delay",
    "RETRY_DELAY_MAX": "retry_delay_max",
    "JOB_RETRY_DELAY_MAX": "retry_delay_max",
    "PGBOSS_POLLING_INTERVAL": "polling_interval",
    "POLLING_INTERVAL": "polling_interval",
    "JOB_POLLING_INTERVAL": "polling_interval",
    "JOB_START_WITHIN": "start_within",
    "JOB_RETENTION": "retention",
    "TOOL_JOB_RETENTION": "retention",
    "PROCESSOR_CANCEL_GRACE": "cancel_grace",
    "WORKER_SHUTDOWN_GRACE": "shutdown_grace",
    "RETENTION": "queue_retention",
    "ARCHIVE_COMPLETED_AFTER": "archive_completed",
    "MAINTENANCE_INTERVAL": "maintenance_interval",
    "SUPERVISE_INTERVAL": "maintenance_interval",
    "HEARTBEAT": "heartbeat",
    "JOB_HEARTBEAT": "heartbeat",
    "JOB_HEARTBEAT_INTERVAL": "heartbeat",
    "HEARTBEAT_INTERVAL": "heartbeat",
}
_COUNTS: Final = {
    "JOB_MAX_ATTEMPTS": "max_attempts",
    "MAX_ATTEMPTS": "max_attempts",
    "RETRY_LIMIT": "retry_limit",
    "JOB_RETRY_LIMIT": "retry_limit",
    "PGBOSS_RETRY_LIMIT": "retry_limit",
    "JOB_RETRY_BACKOFF": "retry_backoff",
    "RETRY_BACKOFF": "retry_backoff",
    "BATCH_SIZE": "batch_size",
    "JOB_BATCH_SIZE": "batch_size",
    "PGBOSS_BATCH_SIZE": "batch_size",
}
_BARE_SECONDS: Final = frozenset({
    "PGBOSS_POLLING_INTERVAL", "RETRY_DELAY", "JOB_RETRY_DELAY", "PGBOSS_RETRY_DELAY", "RETRY_DELAY_MAX",
})  # fmt: skip
"""Durations that pg-boss, or the guide, writes without a unit: seconds."""

_OF_OPTIONS_ONLY: Final = frozenset({
    "EXPIRE_IN", "RETRY_DELAY", "RETRY_DELAY_MAX", "POLLING_INTERVAL", "RETENTION", "ARCHIVE_COMPLETED_AFTER",
    "MAINTENANCE_INTERVAL", "SUPERVISE_INTERVAL", "HEARTBEAT", "HEARTBEAT_INTERVAL",
    "RETRY_LIMIT", "RETRY_BACKOFF", "BATCH_SIZE",
})  # fmt: skip
"""Names too common to mean a queue's setting anywhere but among the options of a queue, or the columns of its table."""

_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def shouted(name: str) -> str:
    """Write `retryLimit` and `retry_limit` as `RETRY_LIMIT`."""
    return _HUMP.sub("_", name).upper().replace("-", "_")


def meaning_of(name: str, *, option: bool = False) -> Meaning | None:
    """Answer what a name stands for; `option` says that it stands among a queue's options or columns."""
    loud = shouted(name)
    stem, _, unit = loud.rpartition("_")
    found: Meaning | None = None
    if unit in _UNITS and stem in _DURATIONS:
        found, key = Meaning(_DURATIONS[stem], _UNITS[unit]), stem
    elif loud == "EXPIRE_SECONDS":
        found, key = Meaning("expiry", 1.0), "EXPIRE_IN"
    elif loud in _COUNTS:
        found, key = Meaning(_COUNTS[loud], 1.0), loud
    elif loud in _BARE_SECONDS or (option and loud in _DURATIONS):
        found, key = Meaning(_DURATIONS[loud], 1.0), loud
    if found is None or (key in _OF_OPTIONS_ONLY and not option):
        return None
    return found
