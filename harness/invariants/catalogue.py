"""All invariants, in the order of the catalogue, and after them what other packages bring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from harness.errors import UsageError
from harness.extensions import INVARIANTS, brought
from harness.invariants import (
    attempts_bounded,
    cancel_wins,
    completed_has_result,
    concurrency_limit,
    cron_exactly_once,
    dead_letters_complete,
    enqueue_iff_commit,
    expiry_is_total,
    failed_only_when_exhausted,
    failure_is_recorded,
    fenced,
    isolation_between_jobs,
    lease_outlives_execution,
    legal_transition,
    maintenance_idempotent,
    no_deadlock,
    no_livelock,
    no_lost_job,
    no_lost_update,
    not_before,
    options_honoured,
    priority_order,
    processes_survive,
    retention_spares_live,
    serial_key_exclusive,
    shutdown_leaves_nothing_claimed,
    single_owner,
    store_clock_decides,
    tables_agree,
    unique_respected,
    work_conserving,
    work_finished,
)
from harness.invariants.property import AnomalyKind, Invariant

CATALOGUE: Final[tuple[Invariant, ...]] = (
    legal_transition.INVARIANT,
    attempts_bounded.INVARIANT,
    failed_only_when_exhausted.INVARIANT,
    single_owner.INVARIANT,
    fenced.INVARIANT,
    lease_outlives_execution.INVARIANT,
    completed_has_result.INVARIANT,
    no_lost_job.INVARIANT,
    no_livelock.INVARIANT,
    tables_agree.INVARIANT,
    not_before.INVARIANT,
    priority_order.INVARIANT,
    isolation_between_jobs.INVARIANT,
    failure_is_recorded.INVARIANT,
    maintenance_idempotent.INVARIANT,
    expiry_is_total.INVARIANT,
    unique_respected.INVARIANT,
    cancel_wins.INVARIANT,
    retention_spares_live.INVARIANT,
    concurrency_limit.INVARIANT,
    serial_key_exclusive.INVARIANT,
    work_conserving.INVARIANT,
    cron_exactly_once.INVARIANT,
    enqueue_iff_commit.INVARIANT,
    options_honoured.INVARIANT,
    dead_letters_complete.INVARIANT,
    shutdown_leaves_nothing_claimed.INVARIANT,
    store_clock_decides.INVARIANT,
    no_lost_update.INVARIANT,
    no_deadlock.INVARIANT,
    work_finished.INVARIANT,
    processes_survive.INVARIANT,
)

"""Those of this package."""


@cache
def everything() -> tuple[Invariant, ...]:
    """Answer all invariants, those of other packages last, by the names of their entry points.

    Raises UsageError for one that is none, or takes the name of another invariant or anomaly.
    """
    ids = {invariant.id for invariant in CATALOGUE}
    names = {anomaly.name for invariant in CATALOGUE for anomaly in invariant.anomalies}
    others = brought(INVARIANTS)
    for entry, invariant in others.items():
        if not isinstance(invariant, Invariant):
            raise UsageError(
                f"the entry point {INVARIANTS}:{entry} is no invariant but {type(invariant).__name__}",
                hint="It must name an object of harness.invariants.Invariant.",
            )
        taken = [name for name in (anomaly.name for anomaly in invariant.anomalies) if name in names]
        if invariant.id in ids or taken:
            raise UsageError(
                f"the entry point {INVARIANTS}:{entry} takes a name that exists: {(taken or [invariant.id])[0]}",
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


def gravity(name: str) -> int:
    """Rank an anomaly by the guarantee it costs; the gravest is lowest, ties in the order of the catalogue."""
    names = list(ANOMALIES)
    return ANOMALIES[name][1].guarantee.rank * len(names) + names.index(name)
