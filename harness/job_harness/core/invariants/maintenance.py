"""Maintenance: it may run late, twice or twice at once; it takes back all that is overdue and deletes nothing else.

A verb of maintenance that runs again at the same instant, with nothing in between, must find
nothing to do. A change by any other actor, a step of the clock, a crash and the end of a dead
session count as something between; two that overlap are not one after the other, and one that was
aborted, or did not end at the instant at which it began, may have left something to do. Expiry is
blamed for an overdue claim only where it ran alone, was answered, and no dead session can hold a
lock on the row. Deletion is judged by the store's clock with twice the declared skew to spare.
Whether two rows agree is asked at rest only: in between, a process that writes two tables in two
transactions is at work, or died, and maintenance is what repairs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from job_harness.core.history import Call, Excuse, Fault, Observed, Phase, Return
from job_harness.core.invariants.clocks import RecordedStoreClock
from job_harness.core.invariants.property import (
    AnomalyKind,
    EvidenceNeeded,
    Guarantee,
    Invariant,
    Kind,
    Monitor,
    Reporter,
    Rules,
)
from job_harness.core.model import PROCESSING, Design, Instant, JobId, JobView, format_duration

# maintenance_idempotent -----------------------------------------------------------------------------------------------


MAINTAINING = frozenset({"expire", "reconcile", "rescue", "purge"})


class MaintenanceIdempotent(Monitor):
    """A verb that runs again at the same instant, with nothing between, must find nothing to do."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": MAINTAINING, "on_return": MAINTAINING}

    momentary: ClassVar[frozenset[str]] = frozenset({"_last", "_called"})

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._last: dict[str, Instant] = {}
        """When each verb was called that ended since, alone, with nothing else in between."""
        self._called: dict[str, Instant] = {}
        """By actor, when its call under way began."""
        self._again: dict[str, str] = {}
        """By actor, the verb that it makes again."""

    def on_call(self, event: Call) -> None:
        self._called[event.actor] = event.at
        if self._last.get(event.verb) == event.at:
            self._again[event.actor] = event.verb
        else:
            self._again.pop(event.actor, None)

    def on_return(self, event: Return) -> None:
        self._again.pop(event.actor, None)
        called = self._called.pop(event.actor, None)
        if not event.answered or not event.outcome.done:
            self._last.pop(event.verb, None)
        elif event.alone and called == event.at:
            self._last[event.verb] = event.at

    def on_fault(self, event: Fault) -> None:
        excuse = self.excuse_of(event)
        steps = excuse is Excuse.CLOCK and "within" not in event.data
        if steps or excuse is Excuse.DEATH or event.name == "session ends":  # what it had locked is free now
            self._last.clear()
            self._again.clear()

    def on_observed(self, event: Observed) -> None:
        verb = event.verb
        if self._again and self._again.get(event.actor) == verb:
            self.breach("maintenance_repeats", f"{verb} changed something again at the same instant", job=event.job)
        if self._last:
            self._last = {kept: at for kept, at in self._last.items() if kept == verb and verb in MAINTAINING}
        if self._again:
            self._again = {actor: kept for actor, kept in self._again.items() if kept == verb and verb in MAINTAINING}


MAINTENANCE_IDEMPOTENT = Invariant(
    id="maintenance_idempotent",
    sentence="Maintenance that runs twice, late, or twice at once changes nothing more, and respects claims as a "
    "worker must.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "maintenance_repeats", Guarantee.REPEATABLE_MAINTENANCE, "Maintenance changed the same thing a second time."
        ),
    ),
    make=MaintenanceIdempotent,
)


# expiry_is_total ------------------------------------------------------------------------------------------------------


class ExpiryIsTotal(Monitor):
    """Looks at what `expire` left although no other actor was working on it and no dead session locked it."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"expire"}),
        "on_return": frozenset({"expire"}),
        "on_phase": frozenset({"heal"}),
    }

    momentary: ClassVar[frozenset[str]] = frozenset({"_asked"})

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._held: dict[JobId, JobView] = {}
        self._clock = RecordedStoreClock()
        self._abandoned = 0
        self._asked = 0

    def on_fault(self, event: Fault) -> None:
        if self.excuse_of(event) is Excuse.CLOCK:
            self._clock.fault(event)
        elif event.name == "session ends":
            self._abandoned -= 1
        elif self.excuse_of(event) is Excuse.DEATH and "session_stays" in event.data:
            self._abandoned += 1

    def on_phase(self, event: Phase) -> None:
        self._clock.phase(event)

    def on_observed(self, event: Observed) -> None:
        after = event.after
        if after is not None and after.status is PROCESSING and after.lease_until is not None:
            self._held[event.job] = after
        else:
            self._held.pop(event.job, None)

    def on_call(self, event: Call) -> None:
        self._asked = event.at

    def on_return(self, event: Return) -> None:
        if not self._held or not (event.answered and event.outcome.done and event.alone) or self._abandoned:
            return
        now = self._clock.read(self._asked)
        for job, row in self._held.items():
            if row.attempts < row.max_attempts and Design.BURIES_BY_SWEEP in self.rules.designs:
                continue  # The next claim takes it over.
            if row.agrees and row.lease_until is not None and row.lease_until < now:
                self.breach("overdue_claim_left", f"its lease had run out, and {event.verb} left it", job=job)


EXPIRY_IS_TOTAL = Invariant(
    id="expiry_is_total",
    sentence="Every claim whose lease ran out is taken back by the next expiry, whatever else is running.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "overdue_claim_left",
            Guarantee.PROGRESS,
            "Expiry ran and left a claim that was overdue.",
            only_risks=True,
        ),
    ),
    make=ExpiryIsTotal,
    capabilities=("virtual_time",),
)


# retention_spares_live ------------------------------------------------------------------------------------------------


class RetentionSparesLive(Monitor):
    """Looks at every deletion."""

    def on_deleted(self, event: Observed) -> None:
        before = event.before
        if event.after is not None or before is None or before.status is None:
            return
        if not before.terminal:
            self.breach("live_job_deleted", f"{event.verb} deleted a {before.status} job", job=event.job)
            return
        kept = 0 if before.completed_at is None else event.clock - before.completed_at
        if kept + 2 * self.settings.max_skew < self.settings.retention:
            self.breach(
                "deleted_early", f"{event.verb} deleted it after {format_duration(max(kept, 0))}", job=event.job
            )


RETENTION_SPARES_LIVE = Invariant(
    id="retention_spares_live",
    sentence="Only terminal jobs are deleted, and only after their retention.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("live_job_deleted", Guarantee.AT_LEAST_ONCE, "A job was deleted before it ended."),
        AnomalyKind("deleted_early", Guarantee.RETENTION, "A job was deleted before its retention was over."),
    ),
    make=RetentionSparesLive,
    capabilities=("maintenance",),
    stepwise=RetentionSparesLive,
    evidence=EvidenceNeeded(columns=("completed_at",), settings=("retention",)),
)


# tables_agree ---------------------------------------------------------------------------------------------------------


class TablesAgree(Monitor):
    """Looks once, at rest."""

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for job, view in views.items():
            if view.status is None or view.queue_state is None:
                missing = "tool_job" if view.status is None else "queue"
                self.breach("orphan_row", f"its {missing} row is missing", job=job)
            elif not view.agrees:
                self.breach("tables_disagree", f"tool_job says {view.status}, the queue {view.queue_state}", job=job)


TABLES_AGREE = Invariant(
    id="tables_agree",
    sentence="At rest, the two rows of a job agree, and neither is missing.",
    kind=Kind.EVENTUALLY,
    anomalies=(
        AnomalyKind("tables_disagree", Guarantee.CONSISTENCY, "The two rows of a job contradict each other."),
        AnomalyKind("orphan_row", Guarantee.CONSISTENCY, "One of a job's two rows is missing."),
    ),
    make=TablesAgree,
    stepwise=TablesAgree,
    capabilities=("maintenance",),
)
