"""Where pg-boss 10 differs from this project's decisions, each with the place where it says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from harness.adapters.pgboss.known import known_of
from harness.adapters.pgboss.policy import STANDARD, Policy
from harness.model.duration import DAY
from harness.model.settings import Settings
from harness.port import Contract

NO_CAP: Final = 365 * DAY


def effective(settings: Settings) -> Settings:
    """pg-boss 10 knows no longest retry delay; its exponent stops at 16."""
    return settings.changed(retry_delay_max=NO_CAP)


_STANDARD: Final = Contract(
    documented={
        "final_error_retried": "every failure is retried up to retryLimit; there is no final failure (docs: fail)",
    },
    differences={
        "crashes/before_completing": (
            "a lease ends after its length, a microsecond later: another worker polls first (src: failJobsByTimeout)"
        ),
        "crashes/every_attempt_crashes": (
            "an expired job's error is 'job failed by timeout in active state' (src: failJobsByTimeout)"
        ),
        "lifecycle/operator_retries_failed_job": (
            "retry() raises the limit by one and keeps the count (docs: retry); it opens no new budget"
        ),
        "retries/backoff_is_capped": "there is no longest retry delay before version 11 (docs: send)",
        "retries/final_error_is_not_retried": "there is no final failure (docs: fail)",
        "concurrency/serial_key_is_free_after_failure": "there is no final failure (docs: fail)",
        "uniqueness/key_is_free_after_failure": "there is no final failure (docs: fail)",
        "uniqueness/retry_is_refused_while_another_has_the_key": "there is no final failure (docs: fail)",
    },
    known=known_of("10"),
    effective=effective,
)


def contract_of(policy: Policy = STANDARD) -> Contract:
    """Answer the contract where queues have this policy."""
    return replace(
        _STANDARD,
        documented={**_STANDARD.documented, **policy.documented},
        differences={**_STANDARD.differences, **policy.differences},
    )
