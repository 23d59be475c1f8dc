"""All invariants, those of other packages last, and what a breach of them costs: the guarantees as a ladder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Final

from job_harness.core.extensions import INVARIANTS, brought
from job_harness.core.invariants import (
    attempts,
    clocks,
    endings,
    flows,
    isolation,
    leases,
    lifecycle,
    limits,
    maintenance,
    order,
    ownership,
    requests,
    schedules,
)
from job_harness.core.invariants.deploys import COSTS_ATTEMPT
from job_harness.core.invariants.effects import KEY_VARIES, MISSING, REPEATED, UNKEYED
from job_harness.core.invariants.property import AnomalyKind, Guarantee, Invariant
from job_harness.core.invariants.steps import STEPS_KEPT, UNCOMPENSATED, UNORDERED
from job_harness.errors import UsageError, available, did_you_mean

CATALOGUE: Final[tuple[Invariant, ...]] = (
    endings.PROCESSES_SURVIVE,
    lifecycle.LEGAL_TRANSITION,
    attempts.ATTEMPTS_BOUNDED,
    attempts.FAILED_ONLY_WHEN_EXHAUSTED,
    ownership.SINGLE_OWNER,
    ownership.FENCED,
    leases.LEASE_OUTLIVES_EXECUTION,
    endings.COMPLETED_HAS_RESULT,
    lifecycle.NO_LOST_JOB,
    lifecycle.NO_LIVELOCK,
    maintenance.TABLES_AGREE,
    clocks.NOT_BEFORE,
    order.PRIORITY_ORDER,
    isolation.ISOLATION_BETWEEN_JOBS,
    endings.FAILURE_IS_RECORDED,
    maintenance.MAINTENANCE_IDEMPOTENT,
    maintenance.EXPIRY_IS_TOTAL,
    limits.UNIQUE_RESPECTED,
    lifecycle.CANCEL_WINS,
    lifecycle.RETRY_REOPENS,
    maintenance.RETENTION_SPARES_LIVE,
    limits.CONCURRENCY_LIMIT,
    limits.RATE_LIMIT,
    limits.SERIAL_KEY_EXCLUSIVE,
    order.WORK_CONSERVING,
    order.CLAIMS_AS_ASKED,
    schedules.CRON_EXACTLY_ONCE,
    requests.ENQUEUE_IFF_COMMIT,
    requests.OPTIONS_HONOURED,
    requests.OWN_LEASE_KEPT,
    requests.DEAD_LETTERS_COMPLETE,
    leases.SHUTDOWN_LEAVES_NOTHING_CLAIMED,
    clocks.STORE_CLOCK_DECIDES,
    ownership.NO_LOST_UPDATE,
    isolation.NO_DEADLOCK,
    flows.FLOWS_KEPT,
    flows.GROUPS_KEPT,
    endings.WORK_FINISHED,
)
"""Those of this package. The order decides between anomalies that cost the same guarantee."""


@cache
def everything() -> tuple[Invariant, ...]:
    """Return all invariants, those of other packages last, by the names of their entry points.

    Raises UsageError for one that is none, or takes the name of another invariant or anomaly.
    """
    ids = {invariant.id for invariant in CATALOGUE}
    names = {anomaly.name for invariant in CATALOGUE for anomaly in invariant.anomalies}
    others = brought(INVARIANTS)
    for entry, invariant in others.items():
        if not isinstance(invariant, Invariant):
            raise UsageError(
                f"the entry point {INVARIANTS}:{entry} is not an invariant but {type(invariant).__name__}",
                hint="It must name an object of job_harness.core.invariants.Invariant.",
            )
        taken = [name for name in (anomaly.name for anomaly in invariant.anomalies) if name in names]
        if invariant.id in ids or taken:
            raise UsageError(
                f"the entry point {INVARIANTS}:{entry} uses a name that is already taken: "
                f"{(taken or [invariant.id])[0]}",
                hint="Give the invariant and its anomalies names of their own.",
            )
        ids.add(invariant.id)
        names.update(anomaly.name for anomaly in invariant.anomalies)
    return (*CATALOGUE, *others.values())


class _Anomalies(Mapping[str, tuple[Invariant, AnomalyKind]]):
    """Looked up when first needed: other packages' invariants may import this one."""

    def __getitem__(self, name: str) -> tuple[Invariant, AnomalyKind]:
        return _by_name()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_by_name())

    def __len__(self) -> int:
        return len(_by_name())


@cache
def _by_name() -> dict[str, tuple[Invariant, AnomalyKind]]:
    return {anomaly.name: (invariant, anomaly) for invariant in everything() for anomaly in invariant.anomalies}


ANOMALIES: Final[Mapping[str, tuple[Invariant, AnomalyKind]]] = _Anomalies()


def kind_of(name: str) -> AnomalyKind:
    """Return what an anomaly breaches; one of an invariant of the user's own is named by that alone."""
    if name in ANOMALIES:
        return ANOMALIES[name][1]
    own = {
        kind.name: kind
        for kind in (
            *STEPS_KEPT.anomalies,
            COSTS_ATTEMPT,
            KEY_VARIES,
            MISSING,
            REPEATED,
            UNKEYED,
            UNORDERED,
            UNCOMPENSATED,
        )
    }
    return own.get(name) or AnomalyKind(name, Guarantee.OWN, "A check of your own failed.")


def anomalies_named(names: Iterable[str], *, beside: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return anomalies that options name; `beside` are the target's own. Raises UsageError for one that is neither."""
    wanted = frozenset(names)
    for name in sorted(wanted - beside):
        if name not in ANOMALIES:
            near = did_you_mean(name, ANOMALIES)
            raise UsageError(
                f"no such anomaly: {name!r}{near}",
                hint=available(sorted(ANOMALIES), near=name, listed="`job-harness explain` lists them"),
            )
    return wanted


def gravity(name: str) -> int:
    """Rank an anomaly by the guarantee it costs; the gravest is lowest, ties in the order of the catalogue."""
    names = list(ANOMALIES)
    if name not in ANOMALIES:
        return -1  # A test that has a rule of its own wants to hear of that first.
    return ANOMALIES[name][1].guarantee.rank * len(names) + names.index(name)


# what is left of a queue's promises -----------------------------------------------------------------------------------

RUNGS: Final[tuple[tuple[Guarantee, str], ...]] = (
    (Guarantee.AT_LEAST_ONCE, "jobs may be lost or never end"),
    (Guarantee.UPDATES, "at least once, but updates are lost"),
    (Guarantee.TRUTHFUL_RESULT, "at least once, but a status may be wrong"),
    (Guarantee.ONE_AT_A_TIME, "at least once with correct statuses, but two workers may run a job at once"),
    (Guarantee.FENCING, "at least once and one at a time, but not fenced"),
    (Guarantee.BOUNDED_ATTEMPTS, "fenced, but the number of attempts is not bounded"),
    (Guarantee.ISOLATION, "fenced and bounded, but one bad job harms others"),
)
"""The gravest first: a queue that breaks one keeps at most what the line says."""
SHORT: Final = {
    Guarantee.WAITING: "freedom from deadlocks",
    Guarantee.CANCELLATION: "cancellation",
    Guarantee.UNIQUENESS: "unique keys",
    Guarantee.ATOMIC_ENQUEUE: "transactional enqueue",
    Guarantee.CRON: "exactly one job per slot",
    Guarantee.CONCURRENCY: "concurrency limits",
    Guarantee.FLOWS: "flows",
    Guarantee.PROGRESS: "progress",
    Guarantee.DEAD_LETTERS: "dead letters",
    Guarantee.OPTIONS: "job options",
    Guarantee.CLAIMS: "claims as asked for",
    Guarantee.SCHEDULE: "schedule and order",
    Guarantee.CONSISTENCY: "agreement of both tables",
    Guarantee.REPEATABLE_MAINTENANCE: "repeatable maintenance",
    Guarantee.STORE_CLOCK: "the store's clock",
    Guarantee.RETENTION: "retention",
    Guarantee.OWN: "your own rules",
}
WHOLE = "none was seen to break"


def lost(anomalies: Iterable[str]) -> tuple[Guarantee, ...]:
    """Return the guarantees that anomalies cost, the gravest first."""
    return tuple(sorted({kind_of(name).guarantee for name in anomalies}, key=lambda item: item.rank))


def level(anomalies: Iterable[str]) -> str:
    """Say what is left of a queue's promises: `at least once and one at a time, but not fenced`."""
    broken = lost(anomalies)
    if not broken:
        return WHOLE
    for guarantee, line in RUNGS:
        if guarantee in broken:
            return line
    return f"at least once and fenced, but without {_join_names([SHORT.get(item, item.name) for item in broken])}"


def _join_names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
