"""Where procrastinate differs from this project's decisions, each with the place where it says so."""

from __future__ import annotations

from typing import Final

from harness.model.settings import Settings
from harness.port import Contract, Known


def effective(settings: Settings) -> Settings:
    """A constant wait: its exponential wait is a power of the base, and has another shape than a doubling delay."""
    return settings.changed(retry_backoff=False)


_NO_RESULTS: Final = "results and errors are not stored (docs: a task's return value is only logged)"
_AT_ONCE: Final = "a stalled job is retried at once (docs: howto/production/retry_stalled_jobs)"
_ONE_HEARTBEAT: Final = "a worker's heartbeat is one for all that it runs (docs: howto/production/retry_stalled_jobs)"
_ONE_WAITING: Final = (
    "a queueing lock allows one job in todo, and several in doing (docs: howto/advanced/queueing_locks)"
)
_BY_CLASS: Final = "a strategy leaves exceptions by their class (docs: howto/advanced/retry)"
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
        "final_error_retried": "a retry strategy retries every exception that it is not told to leave (docs: retry)",
    },
    differences={
        "lifecycle/operator_retries_failed_job": "a retry by hand keeps the count of attempts (docs: retry a job)",
        "retries/backoff_doubles": "its exponential wait has another shape (docs: retry)",
        "retries/backoff_is_capped": "there is no longest wait (docs: retry)",
        "retries/final_error_is_not_retried": _BY_CLASS,
        "crashes/while_running": _AT_ONCE,
        "uniqueness/key_is_free_after_failure": _BY_CLASS,
        "uniqueness/retry_is_refused_while_another_has_the_key": _BY_CLASS,
        "cancel/then_its_worker_dies": "a job that runs can only be asked to abort (docs: cancel a job)",
        "cancel/then_its_worker_fails": "a job that runs can only be asked to abort (docs: cancel a job)",
        "cancel/then_its_worker_succeeds": "a job that runs can only be asked to abort (docs: cancel a job)",
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
