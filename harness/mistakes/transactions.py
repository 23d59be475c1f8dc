"""Mistakes at the seam between a producer's transaction and the queue."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.history.outcome import DONE, Outcome
from harness.mistakes.mistake import Mistake
from harness.model.job import JobView


class EnqueuedBeforeCommit(MemoryQueue):
    """rails-dual-write-rollback: the job goes out on another connection."""

    def join(self, transaction: str, row: JobView) -> bool:
        self.put(row)
        return True


class RollbackPublishes(MemoryQueue):
    """rails-dual-write-rollback, the other half: what was deferred goes out however the transaction ends."""

    def rollback(self, transaction: str) -> Outcome:
        self.publish(self.transactions.pop(transaction, ()))
        return DONE


class BeginForgetsOthers(MemoryQueue):
    """sidekiq-poller-pop-then-push: what is neither here nor there is lost."""

    def begin(self, transaction: str) -> Outcome:
        self.transactions = dict.fromkeys(self.transactions, ())
        return super().begin(transaction)


MISTAKES: Final = (
    Mistake(
        name="enqueued-before-commit",
        sentence="A job that is sent in a transaction is visible at once.",
        source="rails#55788, laravel#35266",
        finds=("uncommitted_job_visible",),
        queue=EnqueuedBeforeCommit,
    ),
    Mistake(
        name="rollback-publishes",
        sentence="Jobs are kept back until the transaction has ended, and sent whether it committed or not.",
        source="rails#51426",
        finds=("rolled_back_job_visible",),
        queue=RollbackPublishes,
    ),
    Mistake(
        name="begin-forgets-others",
        sentence="A new transaction empties the buffer in which another one keeps its jobs until its commit.",
        source="sidekiq PR#843",
        finds=("committed_job_lost",),
        queue=BeginForgetsOthers,
    ),
)
