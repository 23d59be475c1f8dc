"""20: no process of an application dies of what it raised itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Fault
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor


class ProcessesSurvive(Monitor):
    """Hears of every exception that nobody caught."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_fault": frozenset({"raised"})}

    def on_fault(self, event: Fault) -> None:
        if event.name == "raised":
            error, where, at = (event.data.get(key, "") for key in ("error", "where", "at"))
            self.breach("unhandled_error", f"{event.actor} raised {error} at {where}, after {at!r}")


INVARIANT = Invariant(
    id="processes_survive",
    number=20,
    sentence="No process of an application dies of an exception that it did not catch.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("unhandled_error", Guarantee.ISOLATION, "A process died of an exception that it did not catch."),
    ),
    make=Monitor,
    stepwise=ProcessesSurvive,
)
