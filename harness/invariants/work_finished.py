"""19: an application reports a job as COMPLETED only when its work finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Effect, Observed
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId
from harness.model.lifecycle import Status


class WorkStarted(Monitor):
    """Watches whether a worker that completes what it claimed has started it at all; what it did then is its own."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_effect": frozenset({"claimed", "started"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._unstarted: dict[JobId, str] = {}
        """Who claimed a job last, until he starts it."""

    def on_effect(self, event: Effect) -> None:
        if event.name == "claimed":
            self._unstarted[event.job] = event.actor
        elif self._unstarted.get(event.job) == event.actor:
            del self._unstarted[event.job]

    def on_changed(self, event: Observed) -> None:
        after = event.after
        if event.job not in self._unstarted or after is None or after.status is Status.PROCESSING:
            return
        holder = self._unstarted.pop(event.job)
        if after.status is Status.COMPLETED and event.verb == "complete" and event.actor == holder:
            self.breach("silent_success", f"{event.actor} completed it, and never ran it", job=event.job)


class WorkFinished(Monitor):
    """Compares what the user's row says with what the runs came to, whoever wrote the row."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_effect": frozenset({"started", "ended"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._ends: dict[JobId, list[str]] = {}

    def on_effect(self, event: Effect) -> None:
        ends = self._ends.setdefault(event.job, [])
        if event.name == "ended":
            ends.append(str(event.data))

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if after is None or after.status is not Status.COMPLETED:
            return
        if before is not None and before.status is Status.COMPLETED:
            return
        ends = self._ends.get(event.job)
        if ends is None:
            self._breach(event, "it was never run")
        elif "success" not in ends:
            self._breach(event, f"its runs ended: {', '.join(ends)}" if ends else "its run has not ended")

    def _breach(self, event: Observed, why: str) -> None:
        self.breach("silent_success", f"{event.actor} made it COMPLETED ({event.verb}); {why}", job=event.job)


INVARIANT = Invariant(
    id="work_finished",
    number=19,
    sentence="An application reports a job as COMPLETED only when a run of it succeeded.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "silent_success", Guarantee.TRUTHFUL_RESULT, "A job is reported COMPLETED and its work never finished."
        ),
    ),
    make=WorkStarted,
    stepwise=WorkFinished,
)
