"""15: a worker that was told to stop, and ended, leaves nothing claimed behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Fault, Observed
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status


class ShutdownLeavesNothingClaimed(Monitor):
    """Keeps what each worker holds, except where it could not know that it holds it."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_fault": frozenset({"stopped", "crash", "lose request", "lose reply", "duplicate"})
    }

    momentary: ClassVar[frozenset[str]] = frozenset({"_unheard"})

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._held: dict[JobId, JobView] = {}
        self._unheard: dict[str, int] = {}

    def on_changed(self, event: Observed) -> None:
        after = event.after
        if after is None or after.status is not Status.PROCESSING:
            self._held.pop(event.job, None)
        elif event.verb == "claim" and self._unheard.get(event.actor) != event.at:
            self._held[event.job] = after

    def on_fault(self, event: Fault) -> None:
        if event.name != "stopped":
            if event.name == "crash" or event.data["at"] != "claim":
                self._forget(event.actor)
            self._unheard[event.actor] = event.at
            return
        for job, row in self._held.items():
            if row.worker == event.actor:
                self.breach("claim_left_behind", f"{event.actor} ended in good order and still holds it", job=job)

    def _forget(self, worker: str) -> None:
        for job in [job for job, row in self._held.items() if row.worker == worker]:
            del self._held[job]


INVARIANT = Invariant(
    id="shutdown_leaves_nothing_claimed",
    number=15,
    sentence="A worker that was told to stop, and ended, leaves nothing claimed behind.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("claim_left_behind", Guarantee.PROGRESS, "A worker ended in good order with a job still claimed."),
    ),
    make=ShutdownLeavesNothingClaimed,
    capabilities=("release",),
)
