"""15: a job that was sent in a transaction is there if and only if that committed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Call, Observed, Return
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId, JobView

VERBS = frozenset({"enqueue", "commit", "rollback"})


class EnqueueIffCommit(Monitor):
    """Keeps what each transaction sent, and how far that transaction came."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_call": VERBS, "on_return": VERBS}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._transaction: dict[JobId, str] = {}
        self._sent: dict[str, dict[JobId, None]] = {}
        """By transaction, the jobs that the queue took."""
        self._ending: dict[str, str] = {}
        """How its producer wants a transaction to end, once he said so."""
        self._committed: dict[str, None] = {}
        self._seen: set[JobId] = set()

    def on_call(self, event: Call) -> None:
        if event.verb == "enqueue":
            request = event.arguments[0]
            if request.transaction is not None:
                self._transaction[request.id] = request.transaction
            else:
                self._transaction.pop(request.id, None)
        else:
            self._ending[event.arguments[0]] = event.verb

    def on_created(self, event: Observed) -> None:
        self._seen.add(event.job)
        transaction = self._transaction.get(event.job)
        if transaction is None:
            return
        match self._ending.get(transaction):
            case "rollback":
                self.breach("rolled_back_job_visible", f"its transaction {transaction} was rolled back", job=event.job)
            case None:
                self.breach("uncommitted_job_visible", f"its transaction {transaction} did not commit", job=event.job)

    def on_return(self, event: Return) -> None:
        if not event.answered or not event.outcome.done or event.job is None:
            return
        if event.verb == "enqueue":
            transaction = self._transaction.get(event.job)
            if transaction is not None:
                self._sent.setdefault(transaction, {})[event.job] = None
        elif event.verb == "commit":
            self._committed[event.job] = None

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for transaction in self._committed:
            for job in self._sent.get(transaction, ()):
                if job not in self._seen:
                    self.breach("committed_job_lost", f"its transaction {transaction} committed", job=job)


INVARIANT = Invariant(
    id="enqueue_iff_commit",
    number=15,
    sentence="A job that was sent in a transaction is there if and only if that transaction committed.",
    kind=Kind.ALWAYS,
    anomalies=(
        AnomalyKind("committed_job_lost", Guarantee.AT_LEAST_ONCE, "A transaction committed and its job is not there."),
        AnomalyKind("uncommitted_job_visible", Guarantee.ATOMIC_ENQUEUE, "A job is there before its commit."),
        AnomalyKind("rolled_back_job_visible", Guarantee.ATOMIC_ENQUEUE, "A job is there after a rollback."),
    ),
    make=EnqueueIffCommit,
    capabilities=("transactions",),
)
