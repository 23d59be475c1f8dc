"""Where pg-boss differs from this project's decisions, by version, each with the place where it says so.

From 12.23 at the latest a worker may say `deadletter` of one job of a batch (src: types.d.ts, JobResult), which is a
final failure; fail(), by which jobs are failed here, cannot.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from harness.adapters.pgboss.contract import NO_CAP, NO_FINAL_FAILURE, STANDARD, Policy
from harness.adapters.pgboss.contract import contract_of as contract_of_10
from harness.adapters.pgboss.node.recurrence import WINDOW, period_of
from harness.adapters.pgboss.translation import seconds_of
from harness.model.duration import MILLISECOND, SECOND
from harness.model.settings import Settings
from harness.port import Contract

FIRST_WITH_CAP: Final = 11
"""The first version that knows a longest retry delay (docs: api/jobs, send, retryDelayMax)."""


def contract_of(major: int, policy: Policy = STANDARD) -> Contract:
    """Answer the contract of a version whose queues have this policy, from its own documentation."""

    def effective(settings: Settings) -> Settings:
        """Whole seconds; version 10 has no longest retry delay."""
        cap = settings.retry_delay_max if major >= FIRST_WITH_CAP else NO_CAP
        return settings.changed(
            retry_delay=seconds_of(settings.retry_delay) * SECOND,
            retry_delay_max=seconds_of(cap) * SECOND,
            lease=seconds_of(settings.lease) * SECOND,
        )

    contract = contract_of_10(policy)
    differences = {**contract.differences, "schedules/a_failed_job_does_not_end_it": NO_FINAL_FAILURE}
    if major >= FIRST_WITH_CAP:
        del differences["retries/backoff_is_capped"]
        del differences["crashes/before_completing"]
        differences["crashes/every_attempt_crashes"] = "its error is 'job timed out' (src: plans, failJobsByTimeout)"
    return replace(
        contract,
        known={},
        differences=differences,
        effective=effective,
        period=period_of,
        slot_due=(MILLISECOND, WINDOW),
    )
