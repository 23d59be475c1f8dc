"""Isolation: one bad job harms no other, and verbs that meet wait for one another.

A verb for many jobs that raises harms all of them, whichever caused it: that is judged at once,
unless the answer was lost on the way. A bystander is a job that the workload declares healthy; at
rest it must have COMPLETED. A single fault anywhere excuses all bystanders, because a fault can
cost any job an attempt: the runs without faults show the breach just as well. A deadlock that the
queue resolves by itself, by making its transaction again, is not seen and is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from job_harness.core.history import Fault, Observed, Return
from job_harness.core.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from job_harness.core.model import CANCELLED, COMPLETED, JobId, JobView

# isolation_between_jobs -----------------------------------------------------------------------------------------------


SHARED = frozenset({"claim", "expire", "reconcile", "rescue", "purge"})
"""Verbs that work for many jobs at once: where one raises, all suffer."""


class IsolationBetweenJobs(Monitor):
    """Asks at the end which jobs the workload declared healthy, and knows which faults hit their workers."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_observed": frozenset({"cancel"}), "on_unknown": SHARED}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._excused = False
        self._cancelled: set[JobId] = set()

    def on_fault(self, event: Fault) -> None:
        self._excused = True

    def on_observed(self, event: Observed) -> None:
        if event.verb == "cancel":
            self._cancelled.add(event.job)

    def on_unknown(self, event: Return) -> None:
        if event.verb in SHARED and event.answered and not event.outcome.thrown_out:
            self.breach("batch_poisoned", f"{event.verb} raised: {event.outcome.reason}")

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        if self._excused:
            return
        healthy = {job for job, facts in self.rules.jobs.items() if facts.healthy}
        for job in sorted(healthy - self._cancelled):
            view = views.get(job)
            if view is not None and view.status is not COMPLETED:
                self.breach("bystander_harmed", f"a healthy job ended as {view.status}: {view.error}", job=job)


class BystandersComplete(IsolationBetweenJobs):
    """A job that an application cancelled was cancelled on purpose."""

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        self._cancelled.update(job for job, view in views.items() if view.status is CANCELLED)
        super().at_rest(views)


ISOLATION_BETWEEN_JOBS = Invariant(
    id="isolation_between_jobs",
    sentence="A poisoned job, row or message never stops a healthy job.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("batch_poisoned", Guarantee.ISOLATION, "A verb for many jobs raised because of one of them."),
        AnomalyKind(
            "bystander_harmed", Guarantee.ISOLATION, "A healthy job did not complete, although no fault concerned it."
        ),
    ),
    make=IsolationBetweenJobs,
    stepwise=BystandersComplete,
)


# no_deadlock ----------------------------------------------------------------------------------------------------------


class NoDeadlock(Monitor):
    """Looks at what verbs raise to their callers: a queue that makes its transaction again by itself is right."""

    def on_unknown(self, event: Return) -> None:
        if event.outcome.deadlocked:
            self.breach("deadlock", f"{event.verb} was thrown out: {event.outcome.reason}", job=event.job)


NO_DEADLOCK = Invariant(
    id="no_deadlock",
    sentence="Concurrent verbs wait for each other; none is aborted because they lock in different orders.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind(
            "deadlock", Guarantee.WAITING, "Two verbs locked the same rows in different orders; one was aborted."
        ),
    ),
    make=NoDeadlock,
)
