"""15: a cancelled job stays cancelled, and is not started again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Effect, Observed, Return
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId
from harness.model.lifecycle import Status


class CancelWins(Monitor):
    """Remembers what was cancelled and not retried since."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_return": frozenset({"cancel"}),
        "on_effect": frozenset({"claimed", "started"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._cancelled: set[JobId] = set()
        self._status: dict[JobId, Status | None] = {}
        self._claims: set[tuple[JobId, int]] = set()
        """Claims that stood in the row: what was rightly claimed before the cancel may still start after it."""

    def on_observed(self, event: Observed) -> None:
        after = event.after
        self._status[event.job] = None if after is None else after.status
        if after is not None and event.verb == "claim" and after.status is Status.PROCESSING:
            self._claims.add((event.job, after.token))
        if after is None or event.verb in ("retry", "resume"):
            self._cancelled.discard(event.job)
        elif event.job in self._cancelled and after.status is not Status.CANCELLED:
            self.breach("cancel_undone", f"{event.verb} made it {after.status} after it was cancelled", job=event.job)
            self._cancelled.discard(event.job)
        elif after.status is Status.CANCELLED:
            self._cancelled.add(event.job)

    def on_return(self, event: Return) -> None:
        if event.verb != "cancel" or not event.outcome.done or event.job is None:
            return
        status = self._status.get(event.job)
        if status is not None and status is not Status.CANCELLED:
            self.breach("cancel_ignored", f"cancel was answered with done, and the job is {status}", job=event.job)

    def on_effect(self, event: Effect) -> None:
        if event.name == "started" and event.job in self._cancelled and (event.job, event.token) not in self._claims:
            self.breach("cancelled_job_started", f"{event.actor} starts it after it was cancelled", job=event.job)


INVARIANT = Invariant(
    id="cancel_wins",
    number=15,
    sentence="A cancelled job stays cancelled; no result, retry or rescue undoes it.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("cancel_undone", Guarantee.CANCELLATION, "A cancelled job came to another status."),
        AnomalyKind("cancel_ignored", Guarantee.CANCELLATION, "A cancel was confirmed and did nothing."),
        AnomalyKind("cancelled_job_started", Guarantee.CANCELLATION, "A job was claimed and started after its cancel."),
    ),
    make=CancelWins,
    capabilities=("cancel",),
)
