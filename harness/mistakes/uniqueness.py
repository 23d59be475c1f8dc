"""Mistakes in who holds a unique key, and until when."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.history.outcome import Outcome, done
from harness.mistakes.mistake import Edit, Mistake
from harness.model.job import JobId, JobView
from harness.model.lifecycle import QueueState, Status
from harness.port import JobRequest


class UniqueIgnored(MemoryQueue):
    def holder(self, request: JobRequest) -> JobId | None:
        return None


class UniqueAmongWaitingOnly(MemoryQueue):
    def key_holder(self, tool: str, key: str) -> JobId | None:
        holder = super().key_holder(tool, key)
        return holder if holder is not None and self.rows[holder].status is Status.PENDING else None


class WaitingAgainCollides(MemoryQueue):
    """procrastinate-retry-queueing-lock: the index among waiting jobs refuses the row, and nobody catches that."""

    def key_holder(self, tool: str, key: str) -> JobId | None:
        waiting = (row for job in self.live if (row := self.rows[job]).status is Status.PENDING)
        return next((row.id for row in waiting if row.unique_key == key and row.tool == tool), None)

    def waiting(self, row: JobView, error: str, nth: int) -> JobView:
        if row.unique_key is not None and self.key_holder(row.tool, row.unique_key) is not None:
            raise ValueError("duplicate key value violates unique constraint")
        return super().waiting(row, error, nth)


class UniqueForgottenOnRetry(MemoryQueue):
    def key_taken(self, row: JobView) -> bool:
        return False


class UniqueNotReleasedOnFailure(MemoryQueue):
    def key_holder(self, tool: str, key: str) -> JobId | None:
        failed = (row.id for row in self.rows.values() if row.unique_key == key and row.status is Status.FAILED)
        return super().key_holder(tool, key) or next(failed, None)


class RepushResetsRunning(MemoryQueue):
    """An upsert that overwrites the state."""

    def holder(self, request: JobRequest) -> JobId | None:
        job = super().holder(request)
        if job is not None and (row := self.rows[job]).status is Status.PROCESSING:
            self.put(row._replace(status=Status.PENDING, queue_state=QueueState.CREATED, lease_until=None))
        return job


class RefusalSwallowed(MemoryQueue):
    def enqueue(self, request: JobRequest) -> Outcome:
        outcome = super().enqueue(request)
        return outcome if outcome.done or request.id in self.rows else done(request.id)


MISTAKES: Final = (
    Mistake(
        name="unique-ignored",
        sentence="Enqueue does not look at unique keys.",
        source="pg-boss#592",
        finds=("unique_key_shared",),
        queue=UniqueIgnored,
    ),
    Mistake(
        name="unique-among-waiting-only",
        sentence="A unique key is held only while its job waits, not while it runs.",
        source="procrastinate#1446, pg-boss#492",
        finds=("unique_key_shared",),
        queue=UniqueAmongWaitingOnly,
    ),
    Mistake(
        name="waiting-again-collides",
        sentence="A key is unique among waiting jobs only, and a failed job that is to wait again collides and raises.",
        source="procrastinate#1446, procrastinate#1543",
        finds=("outcome_lost", "unique_key_shared"),
        queue=WaitingAgainCollides,
    ),
    Mistake(
        name="unique-forgotten-on-retry",
        sentence="Retrying a finished job does not ask whether another took its unique key.",
        source="procrastinate#1543, pg-boss#492",
        finds=("unique_key_shared",),
        queue=UniqueForgottenOnRetry,
    ),
    Mistake(
        name="unique-not-released-on-failure",
        sentence="A job that failed for good keeps its unique key.",
        source="bullmq#4311, bullmq#3555",
        finds=("unique_key_stuck",),
        queue=UniqueNotReleasedOnFailure,
        statements={
            "enqueue": (
                Edit(
                    """q."state" IN ('created', 'retry', 'active')""",
                    """q."state" IN ('created', 'retry', 'active', 'failed')""",
                ),
            )
        },
    ),
    Mistake(
        name="repush-resets-running",
        sentence="Sending a unique key again puts its running job back to PENDING.",
        source="chancy#51",
        finds=("illegal_transition", "concurrent_execution"),
        queue=RepushResetsRunning,
    ),
    Mistake(
        name="refusal-swallowed",
        sentence="Enqueue answers that it is done where the INSERT wrote nothing.",
        source="pg-boss#463, pg-boss#484",
        finds=("job_vanished",),
        queue=RefusalSwallowed,
    ),
)
