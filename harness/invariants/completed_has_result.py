"""7: COMPLETED carries the output of the attempt that completed it, in its time, and no error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from harness.history.event import Call, Effect, Observed, Return
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId, JobView
from harness.model.json_value import canonical, json_problem
from harness.model.lifecycle import Status


class CompletedHasResult(Monitor):
    """Compares the row with what the completing call said and what its run came to."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"complete"}),
        "on_return": frozenset({"complete"}),
        "on_effect": frozenset({"started", "ended"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._said: dict[str, Call] = {}
        self._runs_seen = False
        """Whether runs are told of at all."""
        self._succeeded: set[JobId] = set()

    def on_call(self, event: Call) -> None:
        if event.verb == "complete":
            self._said[event.actor] = event

    def on_return(self, event: Return) -> None:
        self._said.pop(event.actor, None)

    def on_effect(self, event: Effect) -> None:
        if event.name == "started":
            self._runs_seen = True
        elif event.name == "ended" and event.data == "success":
            self._succeeded.add(event.job)

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if after is None or after.status is not Status.COMPLETED:
            return
        if before is None or before.status is not Status.COMPLETED:
            self._completed(event, after)

    def _completed(self, event: Observed, after: JobView) -> None:
        job = event.job
        call = self._said.get(event.actor) if event.verb == "complete" else None
        if event.verb != "reconcile" and (call is None or call.job != job):
            self.breach("success_without_run", f"{event.verb} made it COMPLETED; no worker said so", job=job)
        elif self._runs_seen and job not in self._succeeded:
            self.breach("success_without_run", "it is COMPLETED and no run of it ever succeeded", job=job)
        if call is not None and call.job == job and not _same(call.arguments[-1], after.output):
            self.breach("wrong_result", f"it holds {after.output!r}, the worker said {call.arguments[-1]!r}", job=job)
        if after.error is not None:
            self.breach("completed_with_error", f"it is COMPLETED and holds the error {after.error!r}", job=job)
        if after.completed_at is None or after.started_at is None or after.completed_at < after.started_at:
            skew = 2 * self.settings.max_skew
            if after.completed_at is None or after.started_at is None or after.completed_at + skew < after.started_at:
                self.breach("completed_before_started", "completedAt is missing or before startedAt", job=job)


def _same(said: Any, kept: Any) -> bool:
    if said is kept or said == kept:
        return True
    return json_problem(said) is None and json_problem(kept) is None and canonical(said) == canonical(kept)


INVARIANT = Invariant(
    id="completed_has_result",
    number=7,
    sentence="COMPLETED carries the output of the attempt that completed it, completedAt >= startedAt, and no error.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("success_without_run", Guarantee.TRUTHFUL_RESULT, "A job is COMPLETED whose work never finished."),
        AnomalyKind("wrong_result", Guarantee.TRUTHFUL_RESULT, "A job holds another result than its worker gave."),
        AnomalyKind("completed_with_error", Guarantee.TRUTHFUL_RESULT, "A COMPLETED job still holds an error."),
        AnomalyKind("completed_before_started", Guarantee.TRUTHFUL_RESULT, "A job was completed before it started."),
    ),
    make=CompletedHasResult,
)
