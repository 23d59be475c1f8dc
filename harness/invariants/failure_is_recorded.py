"""13: any failure, with any error value, ends in a recorded outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Observed, Return
from harness.history.outcome import OutcomeKind
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status

SETTLING = frozenset({"complete", "fail", "release"})
FAILING = frozenset({"fail", "expire", "rescue"})


class FailureIsRecorded(Monitor):
    """Looks at what settling verbs answer and at the error that stays behind."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_return": SETTLING}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._rows: dict[JobId, JobView] = {}

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if after is None:
            self._rows.pop(event.job, None)
            return
        self._rows[event.job] = after
        if event.verb not in FAILING or before is None or before.status is after.status:
            return
        if after.status in (Status.FAILED, Status.PENDING) and not after.error:
            self.breach("error_lost", f"{event.verb} recorded no error", job=event.job)

    def on_return(self, event: Return) -> None:
        if event.verb not in SETTLING or not event.answered:
            return
        if event.outcome.kind is OutcomeKind.UNKNOWN and not event.outcome.deadlocked:
            self.breach("outcome_lost", f"{event.verb} raised: {event.outcome.reason}", job=event.job)
        elif event.verb == "fail" and event.outcome.done and event.job is not None:
            row = self._rows.get(event.job)
            if row is not None and row.status is Status.PROCESSING and row.token == event.token:
                self.breach(
                    "outcome_lost", "fail was answered with done, and the job still is PROCESSING", job=event.job
                )


INVARIANT = Invariant(
    id="failure_is_recorded",
    number=13,
    sentence="Any failure, with any error value, ends in a recorded outcome.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("outcome_lost", Guarantee.AT_LEAST_ONCE, "The outcome of an attempt could not be recorded."),
        AnomalyKind("error_lost", Guarantee.TRUTHFUL_RESULT, "A failed attempt left no error behind."),
    ),
    make=FailureIsRecorded,
)
