"""16: what the queue writes and decides comes from the store's clock, however far a worker's is off."""

from __future__ import annotations

from harness.history.event import Observed
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor
from harness.model.duration import format_duration
from harness.model.lifecycle import Status

TOLERANCE = 1_000
"""Microseconds: a store may round."""


class StoreClockDecides(Monitor):
    """Compares timestamps that a verb wrote with the store's clock at that moment."""

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None:
            return
        if event.verb == "claim" and after.status is Status.PROCESSING and after.token != before.token:
            self._compare(event, "startedAt", after.started_at, event.clock)
            self._compare(event, "the lease", after.lease_until, event.clock + self.settings.lease)
        elif event.verb == "heartbeat" and after.lease_until != before.lease_until:
            self._compare(event, "the lease", after.lease_until, event.clock + self.settings.lease)
        elif after.terminal and not before.terminal:
            self._compare(event, "completedAt", after.completed_at, event.clock)

    def _compare(self, event: Observed, what: str, written: int | None, expected: int) -> None:
        if written is not None and abs(written - expected) > TOLERANCE:
            self.breach(
                "foreign_clock",
                f"{event.verb} wrote {what} {format_duration(written - expected)} off the store's clock",
                job=event.job,
            )


INVARIANT = Invariant(
    id="store_clock_decides",
    number=16,
    sentence="All of this holds with every clock off by up to the declared skew: the store's clock alone decides.",
    kind=Kind.ALWAYS,
    anomalies=(AnomalyKind("foreign_clock", Guarantee.STORE_CLOCK, "The queue used another clock than the store's."),),
    make=StoreClockDecides,
    capabilities=("virtual_time",),
)
