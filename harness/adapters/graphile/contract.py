"""Where graphile-worker differs from this project's decisions, each with the place where it says so."""

from __future__ import annotations

from typing import Final

from harness.model.duration import HOUR, Duration
from harness.model.settings import Settings
from harness.port import Contract, Known

LEASE: Final[Duration] = 4 * HOUR
"""So long a job stays locked after a crash; no setting changes it (docs: error-handling, Instantaneous exit)."""

_NO_RESULTS: Final = "a job that succeeded is deleted, results are not stored (docs: tasks, Task executor function)"
_BACKOFF: Final = "a retry waits exp(least(10, attempt)) seconds, whatever the settings (docs: exponential-backoff)"
_LEASE: Final = (
    "a job is unlocked four hours after a crash, with no setting for it (docs: error-handling, Instantaneous exit)"
)
_CANCEL: Final = (
    "a job that runs cannot be cancelled: completeJobs leaves locked jobs alone (docs: admin-functions, Complete jobs)"
)
_EVERY_ERROR: Final = "every error is retried (docs: error-handling, Task failure)"
_KEY: Final = "unsafe_dedupe keeps the job that holds the key, even if it failed for good (docs: job-key, job_key_mode)"


def effective(settings: Settings) -> Settings:
    """Four hours for every claim."""
    return settings.changed(lease=LEASE, heartbeat_interval=0)


CONTRACT: Final = Contract(
    documented={
        "wrong_result": _NO_RESULTS,
        "success_without_run": _NO_RESULTS,
        "error_lost": "a crash throws no error, and an unlocked job keeps none of it (docs: jobs-view, last_error)",
        "unique_key_stuck": _KEY,
        "backoff_out_of_range": _BACKOFF,
        "final_error_retried": _EVERY_ERROR,
    },
    differences={
        "lifecycle/operator_retries_failed_job": (
            "rescheduling leaves the count of attempts where none is given (docs: admin-functions, Rescheduling jobs)"
        ),
        "retries/backoff_doubles": _BACKOFF,
        "retries/backoff_is_capped": _BACKOFF,
        "retries/comes_to_its_turn": _BACKOFF,
        "retries/fails_then_succeeds": _BACKOFF,
        "retries/final_error_is_not_retried": _EVERY_ERROR,
        "concurrency/serial_key_is_free_after_failure": _EVERY_ERROR,
        "clocks/store_clock_is_behind": _BACKOFF,
        "scheduling/retry_does_not_hold_up_the_queue": _BACKOFF,
        "crashes/while_running": "an unlocked job is due at once (docs: error-handling, Instantaneous exit)",
        "maintenance/overdue_behind_a_long_job": _LEASE,
        "cancel/then_its_worker_dies": _CANCEL,
        "cancel/then_its_worker_fails": _CANCEL,
        "cancel/then_its_worker_succeeds": _CANCEL,
        "uniqueness/key_is_free_after_failure": _KEY,
        "uniqueness/retry_is_refused_while_another_has_the_key": _KEY,
    },
    known={
        "hostile/error_with_lone_surrogate": Known(
            frozenset({"outcome_lost"}),
            "scenarios/findings/graphile-worker/a_nul_loses_the_outcome.yaml",
        ),
    },
    effective=effective,
    oldest_first=False,  # Its priority alone is promised (docs: library/add-job, priority); a retry changes run_at.
)
