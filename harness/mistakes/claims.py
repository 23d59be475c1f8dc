"""Mistakes in choosing what a claim takes."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.history.outcome import Outcome, done
from harness.mistakes.mistake import Edit, Mistake
from harness.model.duration import Instant
from harness.model.job import JobView
from harness.model.lifecycle import QueueState, Status
from harness.port import Claim


class ClaimsRunningJob(MemoryQueue):
    def is_due(self, row: JobView, now: Instant) -> bool:
        return row.start_after <= now


class RetriesNeverDue(MemoryQueue):
    def is_due(self, row: JobView, now: Instant) -> bool:
        return super().is_due(row, now) and row.queue_state is not QueueState.RETRY


class RetryPutOff(MemoryQueue):
    def claim(self, worker: str, limit: int) -> Outcome:
        now = self.now(worker)
        for row in self.due(now):
            if row.queue_state is QueueState.RETRY:
                self.put(row._replace(start_after=now + self.delay(row, 0)))
        return super().claim(worker, limit)


class FailedJobBlocksQueue(MemoryQueue):
    def claim(self, worker: str, limit: int) -> Outcome:
        if any(row.status is Status.FAILED for row in self.rows.values()):
            return done([])
        return super().claim(worker, limit)


class ClaimUnchecked(MemoryQueue):
    """Counts what it wanted to take, not what the UPDATE took."""

    def claim(self, worker: str, limit: int) -> Outcome:
        outcome = super().claim(worker, limit)
        lease_until = self.now(worker) + self.settings.lease
        phantoms = [
            Claim(row.id, row.attempts + 1, row.token + 1, worker, row.tool, lease_until)
            for row in self.rows.values()
            if row.status is Status.CANCELLED and row.started_at is None
        ]
        return done([*outcome.value, *phantoms][:limit])


MISTAKES: Final = (
    Mistake(
        name="claims-running-job",
        sentence="A claim takes PROCESSING jobs too, while their leases stand.",
        source="good_job#989",
        finds=("double_claim", "concurrent_execution"),
        queue=ClaimsRunningJob,
        statements={
            "claim": (
                Edit("""t."status" = 'PENDING'""", """t."status" IN ('PENDING', 'PROCESSING')"""),
                Edit("""q."state" IN ('created', 'retry')""", """q."state" IN ('created', 'retry', 'active')"""),
            )
        },
    ),
    Mistake(
        name="retries-never-due",
        sentence="A claim leaves out what waits for a retry, as if it were running.",
        source="pg-boss#610",
        finds=("job_never_run",),
        queue=RetriesNeverDue,
        statements={"claim": (Edit("""q."state" IN ('created', 'retry')""", """q."state" = 'created'"""),)},
    ),
    Mistake(
        name="retry-put-off",
        sentence="A retry's wait is counted from the poll that finds it due: it starts anew each time.",
        source="a delay added to now() where the claim reads it",
        finds=("livelock",),
        queue=RetryPutOff,
    ),
    Mistake(
        name="failed-job-blocks-queue",
        sentence="A job that failed for good keeps its place in the queue's concurrency, and nothing else is claimed.",
        source="dbos-transact-py PR#158, pgqueuer#475",
        finds=("bystander_harmed", "job_never_run"),
        queue=FailedJobBlocksQueue,
        statements={
            "claim": (
                Edit(
                    """AND q."state" IN ('created', 'retry')""",
                    """AND q."state" IN ('created', 'retry')
    AND NOT EXISTS (SELECT FROM "public"."tool_job" dead WHERE dead."status" = 'FAILED')""",
                ),
            )
        },
    ),
    Mistake(
        name="claim-unchecked",
        sentence="A claim hands out what it selected, though the UPDATE found the job cancelled.",
        source="pg-boss#463, procrastinate#511",
        finds=("cancelled_job_started",),
        queue=ClaimUnchecked,
    ),
)
