"""Bugs of pg-boss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from public_bugs import shapes
from public_bugs.entry import Entry

ISSUES: Final = "https://github.com/timgit/pg-boss/issues"
ZOMBIE: Final = "completes a job by its id while another worker runs it: whoever lost it takes the second run away"
POLICIES: Final = "its engines know neither policies nor groups of a queue"
SCHEDULES: Final = "its engines know no schedules"
NUL: Final = "cannot record a failure whose text holds a NUL: the job stays active until its lease runs out"

ENTRIES: Final = (
    *(
        Entry(
            bug="pgboss-zombie-complete",
            known_as="pg-boss#555 (its cause)",
            url=f"{ISSUES}/555",
            about=ZOMBIE,
            affected=release,
            anomalies=("stale_complete",),
            runs=20_000,
        )
        for release in ("pgboss@10.4.2", "pgboss-node@12.25.1")
    ),
    *(
        Entry(
            bug="pgboss-nul-byte-error-wedges",
            known_as="akash-network/console#3898",
            url="https://github.com/akash-network/console/issues/3898",
            about=NUL,
            affected=release,
            anomalies=("outcome_lost",),
            shape=shapes.NUL,
        )
        for release in ("pgboss@10.4.2", "pgboss-node@12.38.0")
    ),
)

UNTRIED: Final[Mapping[str, str]] = {
    "pgboss-maintenance-unique-violation": POLICIES,
    "pgboss-retry-counted-as-active": POLICIES,
    "pgboss-group-head-of-line": POLICIES,
    "pgboss-cron-no-dedupe-11": SCHEDULES,
    "pgboss-cron-clock-skew": SCHEDULES,
    "pgboss-schedule-options-dropped": SCHEDULES,
    "pgboss-backoff-additive": "no search for it was made",
    "pgboss-missing-queue-null": "the harness makes every queue before a job is sent to it",
    "pgboss-archive-deadlock": "its releases (6, 7) are older than any that the engines run",
    "pgboss-missed-cron-on-failover": "it is in the timers of the library, which do not fire here",
}
