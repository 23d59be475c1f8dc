"""Where pg-boss 10 differs from this project's decisions, each with the place where it says so.

`docs` is a page of its manual with the heading, where the pages below docs/api/ of its repository were one in 10.1,
docs/readme.md; `src` is a module of the package with the function.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from harness.adapters.pgboss.known import known_of
from harness.adapters.pgboss.policy import STANDARD, Policy
from harness.model.duration import DAY
from harness.model.settings import Settings
from harness.port import Contract

NO_CAP: Final = 100_000 * DAY
DOUBLINGS: Final = 15
"""Its exponent stops at 16, and is halved once (src: plans, failJobs: LEAST(16, retry_count + 1))."""
NO_FINAL_FAILURE: Final = (
    "every failure is retried up to retryLimit, and fail() has no other (docs: api/workers, Handler function;"
    " api/jobs, send, Retry options; api/jobs, fail)"
)


def effective(settings: Settings) -> Settings:
    """pg-boss 10 knows no longest retry delay."""
    return settings.changed(retry_delay_max=NO_CAP)


_STANDARD: Final = Contract(
    documented={
        "final_error_retried": NO_FINAL_FAILURE,
    },
    differences={
        "crashes/before_completing": (
            "a lease ends a microsecond after its length: another worker polls first (src: plans, failJobsByTimeout)"
        ),
        "crashes/every_attempt_crashes": (
            "an expired job's error is 'job failed by timeout in active state' (src: plans, failJobsByTimeout)"
        ),
        "lifecycle/operator_retries_failed_job": (
            "retry() raises the limit by one and keeps the count, which is no new budget (src: plans, retryJobs);"
            " 10.1 has none"
        ),
        "retries/backoff_is_capped": "version 10 has no longest retry delay (docs: api/jobs, send, Retry options)",
        "retries/final_error_is_not_retried": NO_FINAL_FAILURE,
        "concurrency/serial_key_is_free_after_failure": NO_FINAL_FAILURE,
        "uniqueness/key_is_free_after_failure": NO_FINAL_FAILURE,
        "uniqueness/retry_is_refused_while_another_has_the_key": NO_FINAL_FAILURE,
    },
    known=known_of("10"),
    effective=effective,
    doublings=DOUBLINGS,
)


def contract_of(policy: Policy = STANDARD) -> Contract:
    """Return the contract where queues have this policy."""
    return replace(
        _STANDARD,
        documented={**_STANDARD.documented, **policy.documented},
        differences={**_STANDARD.differences, **policy.differences},
    )
