"""Mistakes with concurrency limits and serial keys: who is let through, and what is given back."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from harness.adapters.memory import MemoryQueue
from harness.history.outcome import Outcome, done
from harness.mistakes.mistake import Mistake
from harness.model.job import JobView
from harness.model.lifecycle import QueueState, Status
from harness.sim.request import Point


class CountedBeforeClaim(MemoryQueue):
    """pgqueuer-global-limit-toctou: SKIP LOCKED protects the rows, and nothing the count."""

    def claim(self, worker: str, limit: int) -> Generator[Any, Any, Outcome]:  # type: ignore[override]
        locked: dict[str, list[JobView]] = self.__dict__.setdefault("locked", {})
        others = [row for owner, rows in locked.items() if owner != worker for row in rows]
        due = [row for row in self.due(self.now(worker)) if row not in others]
        chosen = locked[worker] = self.allowed(due, limit)
        yield Point("take what was counted")
        del locked[worker]
        now = self.now(worker)
        return done([self.take(row, worker, now) for row in chosen if self.rows.get(row.id) == row])


class BatchCheckedAsOne(MemoryQueue):
    """graphile-localqueue-named-queue: every row of the batch is asked before any is taken."""

    def allowed(self, due: list[JobView], limit: int) -> list[JobView]:
        active = self.active()
        return [row for row in due if self.has_permit(row, active) and self.key_is_free(row, active)][:limit]


class LimitBeforeFilter(MemoryQueue):
    """pgboss-group-head-of-line."""

    def allowed(self, due: list[JobView], limit: int) -> list[JobView]:
        return super().allowed(due[:limit], limit)


class DeadJobKeepsPermit(MemoryQueue):
    """dbos-dlq-blocks-queue."""

    def active(self) -> list[JobView]:
        return [row for row in self.rows.values() if row.status in (Status.PROCESSING, Status.FAILED)]


class SerialKeyKeptAtMax(MemoryQueue):
    """graphile-named-queue-locked-at-max."""

    def key_is_free(self, row: JobView, active: list[JobView]) -> bool:
        failed = [other for other in self.rows.values() if other.status is Status.FAILED]
        return super().key_is_free(row, [*active, *failed])


class RetryCountedAsActive(MemoryQueue):
    """pgboss-retry-counted-as-active: the waiting job blocks itself."""

    def is_active(self, row: JobView) -> bool:
        return super().is_active(row) or row.queue_state is QueueState.RETRY


class StaleBlockedByOwnSlot(MemoryQueue):
    """pgqueuer-stale-blocked-by-own-slot: the gate counts the stale row itself."""

    def take_back(self, rows: list[JobView], why: str) -> Outcome:
        active = self.active()
        return super().take_back([row for row in rows if self.has_permit(row, active)], why)


MISTAKES: Final = (
    Mistake(
        name="limit-counted-before-claim",
        sentence="Permits are counted in one statement and jobs are taken in the next, so that two workers both pass.",
        source="pgqueuer#761",
        finds=("concurrency_exceeded", "serial_key_shared"),
        queue=CountedBeforeClaim,
    ),
    Mistake(
        name="batch-checked-as-one",
        sentence="A claim of several jobs asks for each whether it may run before it has taken any of them.",
        source="graphile-worker#621",
        finds=("serial_key_shared", "concurrency_exceeded"),
        queue=BatchCheckedAsOne,
    ),
    Mistake(
        name="limit-before-filter",
        sentence="A claim looks at the first jobs only, and those that have to wait hide the others.",
        source="pg-boss PR#756",
        finds=("due_job_left",),
        queue=LimitBeforeFilter,
    ),
    Mistake(
        name="dead-job-keeps-permit",
        sentence="A job that failed for good never gives its permit back.",
        source="dbos-transact-py PR#158",
        finds=("due_job_left", "job_never_run"),
        queue=DeadJobKeepsPermit,
    ),
    Mistake(
        name="serial-key-kept-at-max",
        sentence="A job that failed for good keeps its serial key.",
        source="graphile-worker#254",
        finds=("due_job_left", "job_never_run"),
        queue=SerialKeyKeptAtMax,
    ),
    Mistake(
        name="retry-counted-as-active",
        sentence="A job that waits for a retry counts as active, and keeps itself from being claimed.",
        source="pg-boss#610",
        finds=("due_job_left", "job_never_run"),
        queue=RetryCountedAsActive,
    ),
    Mistake(
        name="stale-blocked-by-own-slot",
        sentence="Taking back a claim needs a free permit, and the stale job holds the last.",
        source="pgqueuer#475",
        finds=("job_stuck",),
        queue=StaleBlockedByOwnSlot,
    ),
)
