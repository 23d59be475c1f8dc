"""15: only terminal jobs are deleted, and only after their retention."""

from __future__ import annotations

from harness.history.event import Observed
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor
from harness.model.duration import format_duration


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


INVARIANT = Invariant(
    id="retention_spares_live",
    number=15,
    sentence="Only terminal jobs are deleted, and only after their retention.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("live_job_deleted", Guarantee.AT_LEAST_ONCE, "A job that was not finished was deleted."),
        AnomalyKind("deleted_early", Guarantee.RETENTION, "A finished job was deleted before its time."),
    ),
    make=RetentionSparesLive,
    capabilities=("maintenance",),
)
