"""Bugs of pg-boss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from public_bugs import shapes
from public_bugs.entry import Entry

ISSUES: Final = "https://github.com/timgit/pg-boss/issues"
ZOMBIE: Final = (
    "completes a job by its id while another worker runs it; from 12.35.0 on, a call that gets the "
    "job instead of its id, as the library's own worker does, affects only the fetched attempt"
)
NUL: Final = "cannot record a failure whose text holds a NUL: the job stays active until its lease expires"

ENTRIES: Final = (
    *(
        Entry(
            bug="pgboss-zombie-complete",
            known_as="pg-boss#925",
            url=f"{ISSUES}/925",
            about=ZOMBIE,
            affected=release,
            fixed="pgboss-node@12.35.0",
            anomalies=("stale_complete",),
            runs=4_000,
        )
        for release in ("pgboss@10.4.2", "pgboss-node@12.34.0")
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
        for release in ("pgboss@10.4.2", "pgboss-node@10.4.2", "pgboss-node@11.1.2", "pgboss-node@12.38.0")
    ),
    *(
        Entry(
            bug="pgboss-maintenance-unique-violation",
            known_as="pg-boss#492",
            url=f"{ISSUES}/492",
            about=(
                "takes back no more expired leases once a job has to go back to wait while another with its key waits"
            ),
            affected=f"{engine}@10.1.1/stately",
            fixed=f"{engine}@10.1.4/stately",
            anomalies=("batch_poisoned",),
        )
        for engine in ("pgboss", "pgboss-node")
    ),
    Entry(
        bug="pgboss-retry-counted-as-active",
        known_as="pg-boss#610",
        url=f"{ISSUES}/610",
        about="never runs a job that waits for its retry, because it counts that job as running",
        affected="pgboss-node@11.0.7/singleton",
        fixed="pgboss-node@11.0.8/singleton",
        anomalies=("job_never_run",),
    ),
    Entry(
        bug="pgboss-group-head-of-line",
        known_as="pg-boss PR 756",
        url="https://github.com/timgit/pg-boss/pull/756",
        about="gives a worker nothing while the first job in the queue belongs to a full group",
        affected="pgboss-node@12.15.0",
        fixed="pgboss-node@12.16.0",
        anomalies=("due_job_left",),
        shape=shapes.ONE_TO_A_CLAIM,
    ),
    Entry(
        bug="pgboss-backoff-additive",
        known_as="pg-boss#672",
        url=f"{ISSUES}/672",
        about="adds seconds to the delay of a retry instead of doubling it",
        affected="pgboss-node@12.5.4",
        fixed="pgboss-node@12.25.1",
        anomalies=("backoff_out_of_range",),
    ),
    Entry(
        bug="pgboss-cron-no-dedupe-11",
        known_as="pg-boss#592",
        url=f"{ISSUES}/592",
        about="sends the job of a slot again each time it checks the schedule",
        affected="pgboss-node@11.0.0",
        fixed="pgboss-node@11.0.4",
        anomalies=("slot_doubled",),
        shape=shapes.RIGHT_CLOCKS,
    ),
    Entry(
        bug="pgboss-cron-clock-skew",
        known_as="pg-boss PR 843",
        url="https://github.com/timgit/pg-boss/pull/843",
        about=(
            "takes a slot from the instance's clock and its age from the database's clock: if the clocks "
            "differ, the slot never fires"
        ),
        affected="pgboss-node@12.25.1",
        fixed="pgboss-node@12.26.0",
        anomalies=("slot_missed",),
        shape=shapes.CLOCK,
    ),
    Entry(
        bug="pgboss-schedule-options-dropped",
        known_as="pg-boss#529",
        url=f"{ISSUES}/529",
        about="gives the jobs of a schedule the default options, whatever options the schedule was created with",
        affected="pgboss-node@10.1.5",
        fixed="pgboss-node@10.1.6",
        anomalies=("option_dropped",),
        shape=shapes.SCHEDULED,
    ),
)

UNTRIED: Final[Mapping[str, str]] = {
    "pgboss-missing-queue-null": "null is a refusal, as the error is in the fixed release: no job is accepted and lost",
    "pgboss-archive-deadlock": "its releases (6, 7) are older than any that the engines run",
    "pgboss-missed-cron-on-failover": "it is in the timers of its timekeeper (12.33.3), which never fire here",
}
