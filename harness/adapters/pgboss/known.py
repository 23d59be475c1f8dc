"""What releases of pg-boss are known for: the scenarios that break a promise there, and where that is recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from harness.port import Known

_FINDINGS: Final = "scenarios/findings/pgboss"
_UNWRITABLE: Final = Known(frozenset({"outcome_lost"}), f"{_FINDINGS}/a_nul_loses_the_outcome.yaml")
_LATE: Final[Mapping[str, Known]] = {
    "zombies/late_complete": Known(
        frozenset({"stale_complete"}), f"pg-boss#925; {_FINDINGS}/a_late_result_is_taken.yaml"
    ),
    "zombies/late_fail": Known(frozenset({"stale_fail"}), f"pg-boss#925; {_FINDINGS}/a_late_failure_is_taken.yaml"),
}
_BACKOFF: Final = Known(frozenset({"backoff_out_of_range"}), f"pg-boss#672; {_FINDINGS}/a_backoff_that_adds.yaml")
_BACKED_OFF: Final = (
    "schedules/a_failed_job_does_not_end_it",
    "retries/backoff_doubles",
    "retries/backoff_is_capped",
    "retries/fails_until_attempts_are_used_up",
    "retries/final_error_is_not_retried",
    "hostile/dead_job_does_not_block_the_queue",
    "hostile/job_kills_its_worker",
)
_ADDS: Final = ((11, 0), (12, 8))
"""The releases whose exponential delay adds to the delay that was asked for: from the first, before the second."""
_FENCED: Final = (12, 35)
"""The first release that limits an outcome to the attempt that was fetched (src: plans, attemptFence)."""


def known_of(version: str) -> Mapping[str, Known]:
    """Return what is known of a release, such as 10.4.2."""
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    known = {"hostile/error_with_nul": _UNWRITABLE, "hostile/error_with_lone_surrogate": _UNWRITABLE}
    if number < _FENCED:
        known |= _LATE
    if _ADDS[0] <= number < _ADDS[1]:
        known |= dict.fromkeys(_BACKED_OFF, _BACKOFF)
        late = known["zombies/late_fail"]
        both = late.anomalies | _BACKOFF.anomalies
        known["zombies/late_fail"] = Known(both, f"{late.place}; {_BACKOFF.place}")
    return known
