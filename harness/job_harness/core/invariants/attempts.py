"""Attempts: how often a job is delivered, and when that is enough to fail it for good.

Deliveries are counted here, whatever the row says: a claim counts, also one whose worker crashed
before it started, since it is unknown how far a dead worker came. A release gives the attempt back,
an operator's retry starts anew. What is sent under the id of a job that ended and was deleted is
another job, with attempts of its own. Nothing is excused by a fault: a delivery that a fault cut
short is a delivery. An application's claims are not seen, so there the runs that it declares are
counted instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from job_harness.core.history import Call, Effect, Observed
from job_harness.core.invariants.property import (
    AnomalyKind,
    EvidenceNeeded,
    Guarantee,
    Invariant,
    Kind,
    Monitor,
    Reporter,
    Rules,
)
from job_harness.core.model import FAILED, PENDING, PROCESSING, Design, JobId, JobView

# attempts_bounded -----------------------------------------------------------------------------------------------------


class AttemptsBounded(Monitor):
    """Counts deliveries itself, whatever the row says."""

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._deliveries: dict[JobId, int] = {}
        self._to_refuse: dict[JobId, int] = {}
        """By job, the token of the last claim that was one too many, where its worker is to refuse that."""

    def on_effect(self, event: Effect) -> None:
        """Judge the run of a claim that may be one too many."""
        if event.name == "started" and self._to_refuse.get(event.job) == event.token:
            told = f"{event.actor} starts it though no attempt was left"
            self.breach("attempt_overrun", told, job=event.job)

    def on_created(self, event: Observed) -> None:
        """Judge the attempts with which a job is first seen: a row that production left need not show its claims."""
        after = event.after
        if after is not None and after.attempts > after.max_attempts:
            told = f"it has {after.attempts} attempts of at most {after.max_attempts}"
            self.breach("attempt_overrun", told, job=event.job)

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None:
            return
        change = after.attempts - before.attempts
        match event.verb:
            case "claim":
                self._claimed(event.job, after, change, again=after.token != before.token)
            case "release" if after.token == before.token:
                self._deliveries[event.job] = self._deliveries.get(event.job, 0) - 1
                if change not in (0, -1):
                    self.breach("attempts_changed", f"release changed attempts by {change:+d}", job=event.job)
            case "retry" | "resume":
                self._deliveries[event.job] = 0
            case _ if change:
                self.breach("attempts_changed", f"{event.verb} changed attempts by {change:+d}", job=event.job)

    def on_deleted(self, event: Observed) -> None:
        if event.before is not None and event.before.terminal:
            self._deliveries.pop(event.job, None)
            self._to_refuse.pop(event.job, None)

    def _claimed(self, job: JobId, after: JobView, change: int, *, again: bool) -> None:
        if change == 0 and not again:
            return
        count = self._deliveries[job] = self._deliveries.get(job, 0) + 1
        if change != 1:
            self.breach("attempt_not_counted", f"a claim changed attempts by {change:+d}", job=job)
        if Design.CHECKS_AFTER_THE_CLAIM in self.rules.designs:
            if count > after.max_attempts:
                self._to_refuse[job] = after.token
        elif count > after.max_attempts:
            self.breach("attempt_overrun", f"delivery {count} of at most {after.max_attempts}", job=job)
        elif after.attempts > after.max_attempts:
            told = f"a claim made attempts {after.attempts} of at most {after.max_attempts}"
            self.breach("attempt_overrun", told, job=job)


class RunsBounded(Monitor):
    """Counts the runs that an application declares, whatever its rows say, and how often a job came to be PROCESSING.

    A worker that dies before it starts what it took was given the job all the same: without that
    count such a job goes on forever.
    """

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_effect": frozenset({"started"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._runs: dict[JobId, int] = {}
        self._deliveries: dict[JobId, int] = {}
        self._most: dict[JobId, int] = {}
        self._before: dict[JobId, int] = {}
        """How many runs there were when a job was delivered last: a claim that is given back uncounted had none."""

    def on_observed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if after is None:
            if before is not None and before.terminal:
                for memory in (self._runs, self._deliveries, self._most, self._before):
                    memory.pop(event.job, None)
            return
        self._most[event.job] = after.max_attempts
        if before is None or before.status is after.status:
            return
        count = self._deliveries.get(event.job, 0)
        if after.status is PROCESSING:
            count = self._deliveries[event.job] = count + 1
            self._before[event.job] = self._runs.get(event.job, 0)
            if count > after.max_attempts:
                told = f"{event.actor} takes delivery {count} of at most {after.max_attempts}"
                self.breach("attempt_overrun", told, job=event.job)
        elif before.terminal:
            self._deliveries[event.job] = 0
            if self.rules.is_operated(event):
                self._runs[event.job] = 0
        elif after.status is PENDING and after.attempts < before.attempts:
            self._deliveries[event.job] = count - 1
            self._runs[event.job] = self._before.get(event.job, 0)

    def on_effect(self, event: Effect) -> None:
        count = self._runs[event.job] = self._runs.get(event.job, 0) + 1
        most = self._most.get(event.job, self.settings.max_attempts)
        if count > most:
            self.breach("attempt_overrun", f"{event.actor} starts run {count} of at most {most}", job=event.job)


ATTEMPTS_BOUNDED = Invariant(
    id="attempts_bounded",
    sentence="Attempts rise by one with each claim, fall only with a release, and never exceed maxAttempts.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("attempt_overrun", Guarantee.BOUNDED_ATTEMPTS, "A job was delivered more often than allowed."),
        AnomalyKind(
            "attempt_not_counted",
            Guarantee.BOUNDED_ATTEMPTS,
            "A delivery did not count as an attempt.",
            only_risks=True,
        ),
        AnomalyKind(
            "attempts_changed",
            Guarantee.BOUNDED_ATTEMPTS,
            "The number of attempts changed without a delivery.",
            only_risks=True,
        ),
    ),
    make=AttemptsBounded,
    stepwise=RunsBounded,
)


# failed_only_when_exhausted -------------------------------------------------------------------------------------------


class FailedOnlyWhenExhausted(Monitor):
    """Remembers which claims declared their error final."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": frozenset({"fail"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._final: set[tuple[JobId, int]] = set()

    def on_call(self, event: Call) -> None:
        if event.verb == "fail" and event.arguments[-1] and event.job is not None and event.token is not None:
            self._final.add((event.job, event.token))

    def on_deleted(self, event: Observed) -> None:
        if self._final and event.before is not None and event.before.terminal:
            self._final = {(job, token) for job, token in self._final if job != event.job}

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None or before.status is after.status:
            return
        declared = (event.job, before.token) in self._final
        if after.status is FAILED and after.attempts < after.max_attempts and not declared:
            self.breach(
                "failed_early",
                f"{event.verb} failed it at attempt {after.attempts} of {after.max_attempts}",
                job=event.job,
            )
        elif event.verb == "fail" and declared and after.status is PENDING:
            self.breach(
                "final_error_retried", "the error was declared final and the job waits for a retry", job=event.job
            )


FAILED_ONLY_WHEN_EXHAUSTED = Invariant(
    id="failed_only_when_exhausted",
    sentence="FAILED means that the attempts are used up, or that the error was declared final.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("failed_early", Guarantee.AT_LEAST_ONCE, "A job failed for good with attempts left."),
        AnomalyKind(
            "final_error_retried",
            Guarantee.BOUNDED_ATTEMPTS,
            "A job was retried after an error that was declared final.",
        ),
    ),
    make=FailedOnlyWhenExhausted,
    stepwise=FailedOnlyWhenExhausted,
    evidence=EvidenceNeeded(columns=("attempts",), settings=("max_attempts",), named=True),
)
