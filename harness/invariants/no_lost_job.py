"""8: every accepted job is terminal once faults stop and time passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Call, Observed, Return
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status


class NoLostJob(Monitor):
    """Remembers what was accepted and what was rightly deleted."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {
        "on_call": frozenset({"enqueue"}),
        "on_return": frozenset({"enqueue"}),
    }

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._accepted: dict[JobId, None] = {}
        self._gone: set[JobId] = set()
        self._uncommitted: set[int] = set()
        """Enqueues in a transaction: whether they count is another invariant's affair."""

    def on_call(self, event: Call) -> None:
        if event.arguments[0].transaction is not None:
            self._uncommitted.add(event.number)

    def on_return(self, event: Return) -> None:
        if (
            event.verb == "enqueue"
            and event.outcome.done
            and event.job is not None
            and event.outcome.value == event.job
            and event.number not in self._uncommitted
        ):
            self._accepted[event.job] = None

    def on_created(self, event: Observed) -> None:
        self._accepted[event.job] = None

    def on_deleted(self, event: Observed) -> None:
        if event.before is not None and event.before.terminal:
            self._gone.add(event.job)

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for job in self._accepted:
            view = views.get(job)
            if view is None:
                if job not in self._gone:
                    self.breach("job_vanished", "it was accepted, and there is no such job", job=job)
            elif view.status is Status.PENDING:
                self.breach("job_never_run", "at rest it still is PENDING", job=job)
            elif not view.terminal:
                self.breach("job_stuck", f"at rest it still is {view.status}", job=job)


INVARIANT = Invariant(
    id="no_lost_job",
    number=8,
    sentence="Every accepted job is terminal once faults stop and time passes.",
    kind=Kind.EVENTUALLY,
    anomalies=(
        AnomalyKind("job_vanished", Guarantee.AT_LEAST_ONCE, "An accepted job is gone and never ended."),
        AnomalyKind("job_stuck", Guarantee.AT_LEAST_ONCE, "A job stays PROCESSING and nobody works on it."),
        AnomalyKind("job_never_run", Guarantee.AT_LEAST_ONCE, "A job stays PENDING and nobody takes it."),
    ),
    make=NoLostJob,
    stepwise=NoLostJob,
)
