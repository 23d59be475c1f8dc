"""3: FAILED means that the attempts are used up, or that the error was declared final."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Call, Observed
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId
from harness.model.lifecycle import Status


class FailedOnlyWhenExhausted(Monitor):
    """Remembers which claims declared their error final."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": frozenset({"fail"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._final: set[tuple[JobId, int]] = set()

    def on_call(self, event: Call) -> None:
        if event.verb == "fail" and event.arguments[-1] and event.job is not None and event.token is not None:
            self._final.add((event.job, event.token))

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None or before.status is after.status:
            return
        declared = (event.job, before.token) in self._final
        if after.status is Status.FAILED and after.attempts < after.max_attempts and not declared:
            self.breach(
                "failed_early",
                f"{event.verb} failed it at attempt {after.attempts} of {after.max_attempts}",
                job=event.job,
            )
        elif event.verb == "fail" and declared and after.status is Status.PENDING:
            self.breach(
                "final_error_retried", "the error was declared final and the job waits for a retry", job=event.job
            )


INVARIANT = Invariant(
    id="failed_only_when_exhausted",
    number=3,
    sentence="FAILED means that the attempts are used up, or that the error was declared final.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("failed_early", Guarantee.AT_LEAST_ONCE, "A job failed for good with attempts left."),
        AnomalyKind("final_error_retried", Guarantee.BOUNDED_ATTEMPTS, "A job went on after an error declared final."),
    ),
    make=FailedOnlyWhenExhausted,
)
