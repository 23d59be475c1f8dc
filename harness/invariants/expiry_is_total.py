"""14: no claim whose lease ran out is left standing by the queue's own upkeep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Call, Fault, Observed, Phase, Return
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.invariants.store_clock import StoreClock
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status


class ExpiryIsTotal(Monitor):
    """Looks at what `expire` left that nobody else was at the same time at work on, and that no dead session locks."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"expire"}),
        "on_return": frozenset({"expire"}),
        "on_fault": frozenset({"clock", "drift", "crash", "session ends"}),
        "on_phase": frozenset({"heal"}),
    }

    momentary: ClassVar[frozenset[str]] = frozenset({"_asked"})

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._held: dict[JobId, JobView] = {}
        self._clock = StoreClock()
        self._abandoned = 0
        self._asked = 0

    def on_fault(self, event: Fault) -> None:
        if event.name in ("clock", "drift"):
            self._clock.fault(event)
        elif event.name == "session ends":
            self._abandoned -= 1
        elif "session_stays" in event.data:
            self._abandoned += 1

    def on_phase(self, event: Phase) -> None:
        self._clock.phase(event)

    def on_observed(self, event: Observed) -> None:
        after = event.after
        if after is not None and after.status is Status.PROCESSING and after.lease_until is not None:
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
            if row.agrees and row.lease_until is not None and row.lease_until < now:
                self.breach("overdue_claim_left", f"its lease had run out, and {event.verb} left it", job=job)


INVARIANT = Invariant(
    id="expiry_is_total",
    number=14,
    sentence="Every claim whose lease ran out is taken back by the next expiry, whatever else is running.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("overdue_claim_left", Guarantee.PROGRESS, "Expiry was done, and an overdue claim still stands."),
    ),
    make=ExpiryIsTotal,
    capabilities=("virtual_time",),
)
