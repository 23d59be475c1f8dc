"""The bugs of public queues by name, each with the wrong queue that makes the same mistake, or the reason for none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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
    "saq-sweeper-sweeps-other-queues": "sweep-takes-other-queues",
    "river-rescuer-pagination-starvation": "expire-first-page-only",
}
"""Public bug -> wrong queue."""

ELSEWHERE: Final[Mapping[str, str]] = {
    "pgboss-archive-deadlock": "needs row locks: `locks-in-opposite-order`, found on PostgreSQL with gated statements",
    "monoscope-disabled-worker-consumes": "needs workers that are switched off, where nothing else would run: "
    "`disabled-worker-consumes`, found by the scenario `configuration/workers_disabled`",
    "bullmq-pg-listen-not-reestablished": "needs notifications, which the model queue has not; polling finds the job",
}
"""Public bug -> where it is found instead, or why it cannot be planted in a model queue."""
