"""Bugs of PgQueuer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from public_bugs import shapes
from public_bugs.entry import Entry

ISSUES: Final = "https://github.com/janbjorge/pgqueuer/issues"

ENTRIES: Final = (
    Entry(
        bug="pgqueuer-stale-blocked-by-own-slot",
        known_as="pgqueuer#475",
        url=f"{ISSUES}/475",
        about="counts a stale job against its own limit: after a crash at the limit no job is ever picked again",
        affected="pgqueuer@1.0.1",
        fixed="pgqueuer@1.0.2",
        anomalies=("due_job_left",),
        options=("--steps", "600"),
        shape=shapes.LIMIT,
    ),
    Entry(
        bug="pgqueuer-global-limit-toctou",
        known_as="pgqueuer#761",
        url=f"{ISSUES}/761",
        about="counts the running jobs before it picks more: two workers that claim at once exceed a limit",
        affected="pgqueuer@1.3.2 --sessions",
        fixed="pgqueuer@1.5.0 --sessions",
        anomalies=("concurrency_exceeded",),
        seconds=45,
        shape=shapes.LIMIT,
    ),
)

UNTRIED: Final[Mapping[str, str]] = {
    "pgqueuer-heartbeat-cadence": "it is in the timers of its `QueueManager`, which is not part of the engine",
    "pgqueuer-batch-stranded-on-shutdown": "it is in the loop of its `QueueManager`, which is not part of the engine",
}
