"""Mistakes of the queue's own upkeep and of the cron."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.history.outcome import Outcome
from harness.mistakes.mistake import Edit, Mistake
from harness.model.duration import Instant
from harness.model.job import JobView
from harness.model.lifecycle import TERMINAL, Status


class PurgeDeletesLive(MemoryQueue):
    def is_purgeable(self, row: JobView, now: Instant) -> bool:
        return row.created_at + self.settings.retention <= now


class PurgeIgnoresRetention(MemoryQueue):
    def is_purgeable(self, row: JobView, now: Instant) -> bool:
        return row.status in TERMINAL


class OneBadRowStopsExpire(MemoryQueue):
    """One row that the schema refuses aborts the statement for all."""

    def take_back(self, rows: list[JobView], why: str) -> Outcome:
        if any(self.exhausted(row) for row in rows):
            raise ValueError("duplicate key value violates unique constraint")
        return super().take_back(rows, why)


class SweepsOthersToo(MemoryQueue):
    """saq-sweeper-sweeps-other-queues: the sweep of one tool, whose timeouts are short, asks for no tool."""

    def is_overdue(self, row: JobView, now: Instant) -> bool:
        short = self.settings.lease // 2 if row.tool != "tool" else 0
        return super().is_overdue(row, now + short)


class FirstPageOnly(MemoryQueue):
    """river-rescuer-pagination-starvation: one page in a fixed order, what need not be taken back skipped in code."""

    PAGE = 1

    def expire(self) -> Outcome:
        active = [row for job in self.live if (row := self.rows[job]).status is Status.PROCESSING]
        now = self.now("queue")
        overdue = [row for row in active[: self.PAGE] if self.is_overdue(row, now)]
        return self.take_back(overdue, "The lease of worker {worker} ran out in attempt {attempt} of {attempts}.")


class ExpireAgesTwice(MemoryQueue):
    def expire(self) -> Outcome:
        for row in [self.rows[job] for job in self.live]:
            if row.status is Status.PENDING:
                self.put(row._replace(priority=row.priority + 1))
        return super().expire()


MISTAKES: Final = (
    Mistake(
        name="purge-deletes-live",
        sentence="Retention goes by the age of a job and does not ask whether it has ended.",
        source="pg-boss#282",
        finds=("live_job_deleted",),
        queue=PurgeDeletesLive,
        statements={
            "delete_expired": (
                Edit(
                    """WHERE t."status" IN ('COMPLETED', 'FAILED', 'CANCELLED')
    AND t."expiresAt" <=""",
                    """WHERE t."createdAt" + q."keep" <=""",
                ),
                Edit(
                    """
    AND q."state" IN ('completed', 'failed', 'cancelled')""",
                    "",
                ),
            )
        },
    ),
    Mistake(
        name="purge-ignores-retention",
        sentence="The cron deletes every finished job, however fresh.",
        source="pg-boss#282",
        finds=("deleted_early",),
        queue=PurgeIgnoresRetention,
        statements={
            "delete_expired": (
                Edit(
                    """
    AND t."expiresAt" <= coalesce(:now::timestamptz, now())""",
                    "",
                ),
            )
        },
    ),
    Mistake(
        name="one-bad-row-stops-expire",
        sentence="One job that cannot be taken back aborts the batch, for ever.",
        source="pg-boss#492",
        finds=("batch_poisoned", "job_stuck"),
        queue=OneBadRowStopsExpire,
    ),
    Mistake(
        name="sweep-takes-other-queues",
        sentence="The sweep of one tool, whose timeouts are half as long, takes back the jobs of the others as well.",
        source="saq PR#157",
        finds=("taken_back_early",),
        queue=SweepsOthersToo,
    ),
    Mistake(
        name="expire-first-page-only",
        sentence="Expiry looks at one page of running jobs: behind those that need nothing the rest is never seen.",
        source="river PR#1318",
        finds=("overdue_claim_left",),
        queue=FirstPageOnly,
    ),
    Mistake(
        name="expire-ages-twice",
        sentence="Every run of the upkeep raises the priority of what waits, so that two runs raise it twice.",
        source="good_job PR#1543, river PR#1213",
        finds=("maintenance_repeats",),
        queue=ExpireAgesTwice,
    ),
)
