"""Queue policies of pg-boss: which of this project's keys each takes, and what it documents to do otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from harness.errors import UsageError, did_you_mean

_SHARED: Final = "one job of a key may wait while others run (docs: api/queues, createQueue, short)"
_STATELY: Final = (
    "one job of a key in each state, so that one waits beside one that runs (docs: api/queues, createQueue, stately)"
)
_NO_RETRY: Final = (
    "beside a job in retry, another one that fails is failed for good (docs: api/queues, createQueue, stately)"
)


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
    documented: Mapping[str, str] = field(default_factory=dict)
    differences: Mapping[str, str] = field(default_factory=dict)


STANDARD: Final = Policy("standard")
POLICIES: Final[Mapping[str, Policy]] = {
    policy.name: policy
    for policy in (
        STANDARD,
        Policy(
            "short",
            unique=True,
            documented={"unique_key_shared": _SHARED},
            differences={
                "uniqueness/refused_while_the_first_runs": _SHARED,
                "uniqueness/failed_job_waits_beside_its_sibling": _SHARED,
            },
        ),
        Policy("singleton", serial=True),
        Policy(
            "stately",
            unique=True,
            documented={"unique_key_shared": _STATELY, "due_job_left": _STATELY, "failed_early": _NO_RETRY},
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
            hint=f"There are {', '.join(POLICIES)}, as in pgboss-node@10.4.2/stately.",
        )
    return release, POLICIES[name]


def policy_suffix(policy: Policy) -> str:
    """Return what the name of an engine says of its policy: nothing where it is the standard one."""
    return "" if policy is STANDARD else f"/{policy.name}"
