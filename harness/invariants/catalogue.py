"""All invariants, in the order of the catalogue."""

from __future__ import annotations

from typing import Final

from harness.invariants import (
    attempts_bounded,
    cancel_wins,
    completed_has_result,
    failed_only_when_exhausted,
    failure_is_recorded,
    fenced,
    isolation_between_jobs,
    lease_outlives_execution,
    legal_transition,
    maintenance_idempotent,
    no_lost_job,
    not_before,
    priority_order,
    retention_spares_live,
    single_owner,
    store_clock_decides,
    tables_agree,
    unique_respected,
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
    tables_agree.INVARIANT,
    not_before.INVARIANT,
    priority_order.INVARIANT,
    isolation_between_jobs.INVARIANT,
    failure_is_recorded.INVARIANT,
    maintenance_idempotent.INVARIANT,
    unique_respected.INVARIANT,
    cancel_wins.INVARIANT,
    retention_spares_live.INVARIANT,
    store_clock_decides.INVARIANT,
)

ANOMALIES: Final[dict[str, tuple[Invariant, AnomalyKind]]] = {
    anomaly.name: (invariant, anomaly) for invariant in CATALOGUE for anomaly in invariant.anomalies
}


def gravity(name: str) -> int:
    """Rank an anomaly by the guarantee it costs; the gravest is lowest, ties in the order of the catalogue."""
    names = list(ANOMALIES)
    return ANOMALIES[name][1].guarantee.rank * len(names) + names.index(name)
