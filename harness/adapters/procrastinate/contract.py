"""Where procrastinate differs from this project's decisions, each with the place where it says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from harness.model.duration import DAY, Duration
from harness.model.settings import Settings
from harness.port import Contract, Known

NO_CAP: Final[Duration] = 8_000 * 365 * DAY
"""No wait is longer: that is how far its calendar goes."""


def effective(settings: Settings) -> Settings:
    """There is no longest wait; an exponential one is added to the constant one, and grows no faster than a delay."""
    return settings.changed(retry_delay_max=NO_CAP)


_NO_RESULTS: Final = "results and errors are not stored: a job's row has no place for them (source: sql/schema.sql)"
_AT_ONCE: Final = "a stalled job is retried at once (docs: howto/production/retry_stalled_jobs)"
_ONE_HEARTBEAT: Final = "a worker's heartbeat is one for all that it runs (docs: howto/production/retry_stalled_jobs)"
_ONE_WAITING: Final = (
    "a queueing lock allows one job in todo, and several in doing (docs: howto/advanced/queueing_locks)"
)
_BY_CLASS: Final = "a strategy leaves exceptions by their class (docs: howto/advanced/retry, Advanced strategies)"
_WAITS: Final = "a wait is constant, linear or a power, without a cap (docs: howto/advanced/retry, Advanced strategies)"
_ABORT: Final = (
    "a job that runs can only be asked to abort (docs: howto/advanced/cancellation, Mark a running job for abortion)"
)
_FINDINGS: Final = "scenarios/findings/procrastinate"
_FOR_EVER: Final = Known(
    frozenset({"attempt_overrun"}), f"{_FINDINGS}/a_job_that_kills_its_worker_is_run_for_ever.yaml"
)

CONTRACT: Final = Contract(
    documented={
        "wrong_result": _NO_RESULTS,
        "error_lost": _NO_RESULTS,
        "success_without_run": _NO_RESULTS,
        "backoff_out_of_range": _AT_ONCE,
        "unique_key_shared": _ONE_WAITING,
        "stale_heartbeat": _ONE_HEARTBEAT,
        "final_error_retried": _BY_CLASS,
    },
    differences={
        "lifecycle/operator_retries_failed_job": (
            "a retry by hand only sets a failed job back to todo (docs: howto/advanced/retry, Retry a Job Manually)"
        ),
        "retries/backoff_doubles": _WAITS,
        "retries/backoff_is_capped": _WAITS,
        "retries/final_error_is_not_retried": _BY_CLASS,
        "crashes/while_running": _AT_ONCE,
        "uniqueness/key_is_free_after_failure": _BY_CLASS,
        "uniqueness/retry_is_refused_while_another_has_the_key": _BY_CLASS,
        "cancel/then_its_worker_dies": _ABORT,
        "cancel/then_its_worker_fails": _ABORT,
        "cancel/then_its_worker_succeeds": _ABORT,
    },
    known={
        "uniqueness/failed_job_waits_beside_its_sibling": Known(
            frozenset({"outcome_lost", "batch_poisoned", "double_claim"}),
            f"procrastinate#1446, procrastinate#1543; {_FINDINGS}/a_retry_that_finds_its_lock_taken.yaml",
        ),
        "zombies/late_fail": Known(
            frozenset({"illegal_transition", "stale_complete", "stale_fail"}),
            f"{_FINDINGS}/a_late_result_is_taken.yaml",
        ),
        "hostile/job_kills_its_worker": _FOR_EVER,
        "maintenance/one_bad_job_does_not_stop_the_rest": _FOR_EVER,
    },
    effective=effective,
)

GATED_CONTRACT: Final = replace(
    CONTRACT,
    documented={
        **CONTRACT.documented,
        "foreign_clock": "a lease is its worker's earlier heartbeat (docs: howto/production/retry_stalled_jobs)",
    },
)
"""Where a claim's statements come one by one: the lease of a job that is fetched is older than the fetch."""
