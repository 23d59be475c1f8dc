"""The bugs of public queues by name, each with the wrong queue that makes the same mistake, or the reason for none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from job_harness.core.model.duration import MINUTE
from job_harness.core.model.settings import Settings

PLANTED: Final[Mapping[str, str]] = {
    "pgboss-zombie-complete": "stale-complete",
    "celery-visibility-redelivery": "start-after-ignored",
    "oban-attempts-beyond-max-on-crash": "expire-ignores-max-attempts",
    "dramatiq-sigkill-ignores-max-retries": "attempts-not-counted",
    "procrastinate-doing-forever": "expire-never",
    "pgboss-nul-byte-error-wedges": "error-not-escaped",
    "pgboss-maintenance-unique-violation": "one-bad-row-stops-expire",
    "procrastinate-retry-queueing-lock": "waiting-again-collides",
    "pgboss-cron-no-dedupe-11": "cron-no-dedupe",
    "river-rescuer-steals-no-timeout-job": "rescue-too-early",
    "delayedjob-unlocks-others-lock": "stale-release",
    "pgqueuer-stale-blocked-by-own-slot": "stale-blocked-by-own-slot",
    "rails-dual-write-rollback": "enqueued-before-commit",
    "pgboss-cron-clock-skew": "cron-local-clock",
    "pgqueuer-global-limit-toctou": "limit-counted-before-claim",
    "graphile-localqueue-named-queue": "batch-checked-as-one",
    "pgboss-retry-counted-as-active": "retry-counted-as-active",
    "chancy-repush-resets-running": "repush-resets-running",
    "dbos-dlq-blocks-queue": "dead-job-keeps-permit",
    "sidekiq-poller-pop-then-push": "begin-forgets-others",
    "pgboss-schedule-options-dropped": "schedule-options-dropped",
    "pgboss-group-head-of-line": "limit-before-filter",
    "pgboss-missing-queue-null": "refusal-swallowed",
    "pgboss-missed-cron-on-failover": "cron-window-too-short",
    "bullmq-scheduler-chain-broken": "cron-chain-broken",
    "river-two-leaders": "cron-two-leaders",
    "graphile-named-queue-locked-at-max": "serial-key-kept-at-max",
    "good-job-advisory-lock-lost": "claims-running-job",
    "bullmq-dedup-key-leak": "unique-not-released-on-failure",
    "pgboss-backoff-additive": "backoff-additive",
    "procrastinate-backoff-overflow": "backoff-uncapped",
    "oban-snooze-inflates-attempt": "crash-counts-twice",
    "absurd-reclaim-undercounts": "reclaim-not-counted",
    "goodjob-cron-fires-early": "cron-fires-early",
    "unstract-nan-redispatch-loop": "input-not-checked",
    "oban-notify-payload-limit": "large-input-refused",
    "procrastinate-abort-then-retry": "cancel-then-retry",
    "graphile-batch-complete-never-retried": "worker-gives-up-at-once",
    "pgqueuer-batch-stranded-on-shutdown": "worker-strands-its-batch",
    "dramatiq-async-timeouterror-hang": "worker-hangs-on-an-error",
    "delayedjob-failure-hook-kills-worker": "failure-hook-comes-first",
    "pgqueuer-heartbeat-cadence": "worker-beats-too-rarely",
    "solidqueue-heartbeat-stops-before-drain": "heartbeats-end-at-shutdown",
    "saq-sweeper-sweeps-other-queues": "sweep-takes-other-queues",
    "river-rescuer-pagination-starvation": "expire-first-page-only",
}
"""Public bug -> wrong queue."""

BEATING: Final = Settings(lease=4 * MINUTE, heartbeat_interval=MINUTE)
"""A lease that is shorter than a job may take: heartbeats keep it."""
UNDER: Final[Mapping[str, Settings]] = {"worker-beats-too-rarely": BEATING, "heartbeats-end-at-shutdown": BEATING}
"""Wrong queue -> the settings that it is looked for under, where the defaults give it nothing to do."""

UNDRAWN: Final[Mapping[str, str]] = {
    "disabled-worker-consumes": "shows only where workers are switched off, and then no job of a drawn workload would "
    "ever run: `scenarios/configuration/workers_disabled.yaml` has it as its control",
}
"""Wrong queue -> why the generic workload cannot come upon it."""

RARE: Final[Mapping[str, str]] = {
    "stale-release": "a worker must be stopped while it holds a second, unstarted job of its batch, stall until that "
    "job's lease is over, and release it after another worker has claimed it",
    "rescue-too-early": "maintenance comes when something is due for it, or half-way to that in one run in five, and "
    "must come while a job has run for a quarter of its timeout",
    "expire-ignores-heartbeat": "only the second job of a batch outlives the lease that its claim was given",
    "stale-heartbeat": "a worker must stall past its lease in the middle of a job, in a batch with heartbeats, and "
    "beat after another has claimed it",
    "stale-complete": "a worker must stall between its last look at the queue and its report, past the lease and until "
    "another holds the job",
    "result-overwritten": "as `stale-complete`, and the other worker must have completed meanwhile",
    "late-failure-revives": "as `stale-complete`, with a failure to report",
    "unique-forgotten-on-retry": "an operator must retry a finished job after another was accepted under its key",
    "unique-not-released-on-failure": "two jobs must have one key, the first fail for good, and the second come later",
    "cancel-overwritten": "an operator must cancel a job while it runs, and its worker report after that",
    "sweep-takes-other-queues": "only one workload in five has a second tool, whose job must run for half its lease",
    "failed-job-blocks-queue": "a job must fail for good while another still waits, and workers go on polling for that "
    "one: its runs are long",
    "claim-looks-at-one-page": "120 jobs must wait at once, as in one drawn run of 200",
    "expire-looks-at-a-thousand": "a lease must run out while ten thousand jobs wait, as they do in one drawn run of "
    "160",
    "retries-never-due": "workers go on polling for a retry that they are never given: its runs are long",
}
"""Wrong queue -> what has to come together for it to show."""

ELSEWHERE: Final[Mapping[str, str]] = {
    "pgboss-archive-deadlock": "needs row locks: `locks-in-opposite-order`, found on PostgreSQL with gated statements",
    "monoscope-disabled-worker-consumes": "needs workers that are switched off, where nothing else would run: "
    "`disabled-worker-consumes`, found by the scenario `configuration/workers_disabled`",
    "bullmq-pg-listen-not-reestablished": "needs notifications, which the model queue has not; polling finds the job",
}
"""Public bug -> where it is found instead, or why it cannot be planted in a model queue."""
