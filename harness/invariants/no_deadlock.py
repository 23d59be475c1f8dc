"""18: verbs that meet wait for one another; none is thrown out of a circle of waiting transactions."""

from __future__ import annotations

from harness.history.event import Return
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor


class NoDeadlock(Monitor):
    """Looks at what verbs raise to their callers: a queue that makes its transaction again by itself is right."""

    def on_return(self, event: Return) -> None:
        if event.outcome.reason and event.outcome.deadlocked:
            self.breach("deadlock", f"{event.verb} was thrown out: {event.outcome.reason}", job=event.job)


INVARIANT = Invariant(
    id="no_deadlock",
    number=18,
    sentence="Verbs that meet wait for one another; none is aborted because they lock in different orders.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "deadlock", Guarantee.WAITING, "Two verbs locked the same rows in different orders; one was aborted."
        ),
    ),
    make=NoDeadlock,
)
