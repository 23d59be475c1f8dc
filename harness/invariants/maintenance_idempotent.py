"""14: maintenance run twice, late, or twice at once changes nothing more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Call, Fault, Observed, Return
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.duration import Instant

VERBS = frozenset({"expire", "reconcile", "rescue", "purge"})


class MaintenanceIdempotent(Monitor):
    """A verb that runs again at the same instant, with nothing between, must find nothing to do."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": VERBS, "on_return": VERBS}

    momentary: ClassVar[frozenset[str]] = frozenset({"_last"})

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._last: dict[str, Instant] = {}
        self._again: set[str] = set()

    def on_call(self, event: Call) -> None:
        if event.verb in VERBS:
            if self._last.get(event.verb) == event.at:
                self._again.add(event.verb)
            else:
                self._again.discard(event.verb)
            self._last[event.verb] = event.at

    def on_return(self, event: Return) -> None:
        self._again.discard(event.verb)
        if not event.answered:
            self._last.pop(event.verb, None)

    def on_fault(self, event: Fault) -> None:
        if event.name in ("clock", "crash", "session ends"):  # also: what a dead session had locked is free now
            self._last.clear()
            self._again.clear()

    def on_observed(self, event: Observed) -> None:
        if event.verb in self._again:
            self.breach(
                "maintenance_repeats", f"{event.verb} changed something again at the same instant", job=event.job
            )
        if event.verb not in VERBS:
            self._last.clear()
            self._again.clear()
        else:
            for verb in [verb for verb in self._last if verb != event.verb]:
                del self._last[verb]
                self._again.discard(verb)


INVARIANT = Invariant(
    id="maintenance_idempotent",
    number=14,
    sentence="Maintenance run twice, late, or twice at once changes nothing more; it fences like a worker.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "maintenance_repeats", Guarantee.REPEATABLE_MAINTENANCE, "Maintenance changed the same thing a second time."
        ),
    ),
    make=MaintenanceIdempotent,
)
