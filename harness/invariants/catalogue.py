"""All invariants, in the order of the catalogue."""

from __future__ import annotations

from typing import Final

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

ANOMALIES: Final[dict[str, tuple[Invariant, AnomalyKind]]] = {
    anomaly.name: (invariant, anomaly) for invariant in CATALOGUE for anomaly in invariant.anomalies
}


def gravity(name: str) -> int:
    """Rank an anomaly by the guarantee it costs; the gravest is lowest, ties in the order of the catalogue."""
    names = list(ANOMALIES)
    return ANOMALIES[name][1].guarantee.rank * len(names) + names.index(name)
