"""Where pg-boss differs from this project's decisions, by policy of its queues and by release, each with its place.

`docs` is a page of its manual with the heading, where the pages below docs/api/ of its repository were one in 10.1,
docs/readme.md; `src` is a module of the package with the function. The contract itself is that of version 10; what
later releases do otherwise is said beside their engine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from job_harness.core.model import DAY, SECOND, Duration, Settings, Status
from job_harness.core.port import Contract, Documented, Known
from job_harness.errors import UsageError, did_you_mean

_SHARED: Final = "one job of a key may wait while others run (docs: api/queues, createQueue, short)"
_STATELY: Final = (
    "one job of a key in each state, so that one waits beside one that runs (docs: api/queues, createQueue, stately)"
)
_NO_RETRY: Final = (
    "beside a job in retry, another one that fails is failed for good (docs: api/queues, createQueue, stately)"
)


def _shared(place: str) -> Documented:
    """A job is sent or goes back to wait beside one that runs, or is claimed beside it; nothing else lets two share."""
    verbs = frozenset({"enqueue", "fail", "expire", "retry", "claim"})
    return Documented(place, verbs=verbs, scenario="uniqueness/refused_while_the_first_runs")


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy; with neither `unique` nor `serial`, pg-boss looks at no key."""

    name: str
    unique: bool = False
    """A unique key is pg-boss's `singletonKey`."""
    serial: bool = False
    """A serial key is pg-boss's `singletonKey`."""
    since: tuple[int, int] = (10, 0)
    """The first release that has it."""
    documented: Mapping[str, str | Documented] = field(default_factory=dict)
    differences: Mapping[str, str] = field(default_factory=dict)


STANDARD: Final = Policy("standard")
POLICIES: Final[Mapping[str, Policy]] = {
    policy.name: policy
    for policy in (
        STANDARD,
        Policy(
            "short",
            unique=True,
            documented={"unique_key_shared": _shared(_SHARED)},
            differences={
                "uniqueness/refused_while_the_first_runs": _SHARED,
                "uniqueness/failed_job_waits_beside_its_sibling": _SHARED,
            },
        ),
        Policy("singleton", serial=True),
        Policy(
            "stately",
            unique=True,
            documented={
                "unique_key_shared": _shared(_STATELY),
                "due_job_left": Documented(_STATELY, verbs=frozenset({"claim"})),
                "failed_early": Documented(
                    _NO_RETRY, verbs=frozenset({"fail", "expire"}), states=frozenset({Status.PROCESSING})
                ),
            },
            differences={
                "uniqueness/refused_while_the_first_runs": _STATELY,
                "uniqueness/failed_job_waits_beside_its_sibling": _STATELY,
            },
        ),
        Policy("exclusive", unique=True, since=(11, 1)),
    )
}


def split_policy(version: str) -> tuple[str, Policy]:
    """Take `10.1.4/stately` apart: the release, and the policy of its queues, `standard` unless named.

    Raises UsageError for a policy that is not known here.
    """
    release, slash, name = version.partition("/")
    if not slash:
        return release, STANDARD
    if name not in POLICIES:
        raise UsageError(
            f"no such queue policy of pg-boss: {name!r}{did_you_mean(name, POLICIES)}",
            hint=f"Available: {', '.join(POLICIES)}, as in pgboss-node@10.4.2/stately.",
        )
    return release, POLICIES[name]


def policy_suffix(policy: Policy) -> str:
    """Return what the name of an engine says of its policy: nothing where it is the standard one."""
    return "" if policy is STANDARD else f"/{policy.name}"


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


NO_CAP: Final = 100_000 * DAY
DOUBLINGS: Final = 15
"""Its exponent stops at 16, and is halved once (src: plans, failJobs: LEAST(16, retry_count + 1))."""
NO_FINAL_FAILURE: Final = (
    "every failure is retried up to retryLimit, and fail() has no other (docs: api/workers, Handler function;"
    " api/jobs, send, Retry options; api/jobs, fail)"
)


_NO_CAP: Final = "version 10 has no longest retry delay (docs: api/jobs, send, Retry options)"


def first_delay(settings: Settings) -> Duration:
    """Return the wait before the first retry: with backoff it is a second at least (docs: api/jobs, send)."""
    return max(settings.retry_delay, SECOND) if settings.retry_backoff else settings.retry_delay


def effective(settings: Settings) -> Settings:
    """pg-boss 10 knows no longest retry delay."""
    return settings.changed(retry_delay=first_delay(settings), retry_delay_max=NO_CAP)


_STANDARD: Final = Contract(
    documented={
        "final_error_retried": Documented(
            NO_FINAL_FAILURE,
            verbs=frozenset({"fail"}),
            states=frozenset({Status.PROCESSING}),
            scenario="retries/final_error_is_not_retried",
        ),
    },
    differences={
        "crashes/before_completing": (
            "a lease ends a microsecond after its length: another worker polls first (src: plans, failJobsByTimeout)"
        ),
        "lifecycle/operator_retries_failed_job": (
            "retry() raises the limit by one and keeps the count, which is no new budget (src: plans, retryJobs);"
            " 10.1 has none"
        ),
        "retries/backoff_is_capped": _NO_CAP,
        "retries/final_error_is_not_retried": NO_FINAL_FAILURE,
        "concurrency/serial_key_is_free_after_failure": NO_FINAL_FAILURE,
        "uniqueness/key_is_free_after_failure": NO_FINAL_FAILURE,
        "uniqueness/retry_is_refused_while_another_has_the_key": NO_FINAL_FAILURE,
    },
    known=known_of("10"),
    effective=effective,
    ignored={"retry_delay_max": _NO_CAP},
    doublings=DOUBLINGS,
)


def contract_of(policy: Policy = STANDARD) -> Contract:
    """Return the contract where queues have this policy."""
    return replace(
        _STANDARD,
        documented={**_STANDARD.documented, **policy.documented},
        differences={**_STANDARD.differences, **policy.differences},
    )
