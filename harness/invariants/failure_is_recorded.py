"""13: any failure, with any error value, ends in a recorded outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Effect, Excuse, Fault, Observed, Return
from harness.history.outcome import OutcomeKind
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.duration import MINUTE, Duration, Instant
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status

SETTLING = frozenset({"complete", "fail", "release"})
REPORTED = frozenset({"success", "failure", "timeout", "bad output"})
"""Ends of a run that its worker has to report."""
ENOUGH_TRIES = 2
"""Whoever reported in vain so often is excused."""
TO_REPORT: Duration = MINUTE
"""So long a worker may take to report, and to report again."""
FAILING = frozenset({"fail", "expire", "rescue"})


class FailureIsRecorded(Monitor):
    """Looks at what settling verbs answer, at the error that stays behind, and at runs whose end was not reported."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_return": SETTLING,
        "on_effect": frozenset({"ended"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._rows: dict[JobId, JobView] = {}
        self._unreported: dict[JobId, tuple[str, Instant, int]] = {}
        """Whose run has ended and is not settled: by which worker, when, and how often that was reported in vain."""

    def on_effect(self, event: Effect) -> None:
        if event.data in REPORTED:
            self._unreported[event.job] = (event.actor, event.at, 0)

    def on_fault(self, event: Fault) -> None:
        """Excuse whoever was kept from reporting."""
        if event.name != "stopped" and self.rules.excuses.get(event.name) not in (Excuse.LATE, Excuse.DEATH):
            return
        for job in [job for job, (worker, _, _) in self._unreported.items() if event.actor in ("*", worker)]:
            del self._unreported[job]

    def _taken_back(self, event: Observed, worker: str, since: Instant, tries: int) -> None:
        """Judge the loss of a claim whose run had ended: whoever got no answer once must have asked again."""
        if event.verb in ("expire", "rescue") and tries < ENOUGH_TRIES and event.at - since > TO_REPORT:
            how = "reported it once, in vain" if tries else "never reported it"
            self.breach("outcome_lost", f"its run ended; {worker} {how}, and {event.verb} took it back", job=event.job)

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if self._unreported and (after is None or after.status is not Status.PROCESSING):
            report = self._unreported.pop(event.job, None)
            if report is not None:
                self._taken_back(event, *report)
        if after is None:
            self._rows.pop(event.job, None)
            return
        self._rows[event.job] = after
        if event.verb not in FAILING or before is None or before.status is after.status:
            return
        if after.status in (Status.FAILED, Status.PENDING) and not after.error:
            self.breach("error_lost", f"{event.verb} recorded no error", job=event.job)

    def on_return(self, event: Return) -> None:
        report = self._unreported.get(event.job or "")
        if event.job is not None and report is not None and report[0] == event.actor:
            if event.outcome.kind is OutcomeKind.UNKNOWN or not event.answered:
                self._unreported[event.job] = (*report[:2], report[2] + 1)
            else:
                del self._unreported[event.job]
        if not event.answered:
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
