"""Wrong queues in what keeps the tables in order: expiry, retention, repair, and the two rows of one job."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from job_harness.core.history import DONE, Outcome
from job_harness.core.model import TERMINAL, Instant, JobId, JobView, Json, QueueState, Status
from job_harness.core.port import Claim
from job_harness.core.sim import Point
from job_harness.engines.memory import MemoryQueue, UpkeepRules
from job_harness.engines.memory.queue import OVERDUE
from job_harness.search.wrong_queues.wrong_queue import BlindSpot, Edit, Mistake, Theme

# maintenance ----------------------------------------------------------------------------------------------------------


class PurgeDeletesLive(UpkeepRules):
    def is_purgeable(self, row: JobView, now: Instant) -> bool:
        return row.created_at + self.settings.retention <= now


class PurgeIgnoresRetention(UpkeepRules):
    def is_purgeable(self, row: JobView, now: Instant) -> bool:
        return row.status in TERMINAL


class OneBadRowStopsExpire(UpkeepRules):
    """One row that the schema refuses aborts the statement for all."""

    def take_back(self, rows: list[JobView], why: str) -> Outcome:
        if any(self.queue.endings.exhausted(row) for row in rows):
            raise ValueError("duplicate key value violates unique constraint")
        return super().take_back(rows, why)


class SweepsOthersToo(UpkeepRules):
    """saq-sweeper-sweeps-other-queues: the sweep of one tool, whose timeouts are short, asks for no tool."""

    def is_overdue(self, row: JobView, now: Instant) -> bool:
        short = self.settings.lease // 2 if row.tool != "tool" else 0
        return super().is_overdue(row, now + short)


class FirstPageOnly(MemoryQueue):
    """river-rescuer-pagination-starvation: one page in a fixed order, what need not be taken back skipped in code."""

    PAGE = 1

    def expire(self) -> Outcome:
        active = [row for row in self.unfinished() if row.status is Status.PROCESSING]
        now = self.now("queue")
        overdue = [row for row in active[: self.PAGE] if self.upkeep.is_overdue(row, now)]
        return self.upkeep.take_back(overdue, OVERDUE)


class ExpireAgesTwice(MemoryQueue):
    def expire(self) -> Outcome:
        for row in list(self.unfinished()):
            if row.status is Status.PENDING:
                self.put(row._replace(priority=row.priority + 1))
        return super().expire()


MAINTENANCE: Final = Theme.of(
    "maintenance that compares and sets, and fences",
    Mistake(
        name="purge-deletes-live",
        sentence="Retention goes by the age of a job, and ignores whether it has ended.",
        source="pg-boss#282",
        finds=("live_job_deleted",),
        rules=(PurgeDeletesLive,),
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
        sentence="Maintenance deletes every finished job at once.",
        source="pg-boss#282",
        finds=("deleted_early",),
        rules=(PurgeIgnoresRetention,),
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
        sentence="One job that cannot be taken back aborts its whole batch, every time.",
        source="pg-boss#492",
        finds=("batch_poisoned", "job_stuck"),
        rules=(OneBadRowStopsExpire,),
    ),
    Mistake(
        name="sweep-takes-other-queues",
        sentence="The sweep of one tool, whose timeouts are half as long, takes back the jobs of the others as well.",
        source="saq PR#157",
        finds=("taken_back_early",),
        rules=(SweepsOthersToo,),
        stands_for=BlindSpot.TOOLS,
    ),
    Mistake(
        name="expire-first-page-only",
        sentence="Expiry reads only the first page of running jobs, and never sees the jobs after it.",
        source="river PR#1318",
        finds=("overdue_claim_left",),
        queue=FirstPageOnly,
    ),
    Mistake(
        name="expire-ages-twice",
        sentence="Every run of the upkeep raises the priority of waiting jobs, so two runs raise it twice.",
        source="good_job PR#1543, river PR#1213",
        finds=("maintenance_repeats",),
        queue=ExpireAgesTwice,
        stands_for=BlindSpot.REPEATS,
    ),
)


# tables ---------------------------------------------------------------------------------------------------------------


class CompletesOneTableOnly(MemoryQueue):
    """Its reconcile does not look at finished jobs either."""

    def put(self, row: JobView) -> None:
        if row.status is not Status.COMPLETED:
            super().put(row)
            return
        super().put(row._replace(queue_state=QueueState.ACTIVE))
        self.apart.pop(row.id)


class CompletesInTwoSteps(MemoryQueue):
    """A dual write: the queue's row first, the user's row in a transaction of its own."""

    def complete(self, claim: Claim, output: Json) -> Generator[Any, Any, Outcome]:  # type: ignore[override]
        row = self.endings.held(claim, "complete")
        if row is None or self.endings.output_problem(output):
            return super().complete(claim, output)
        self.put(row._replace(queue_state=QueueState.COMPLETED, lease_until=None))
        yield Point(f"between the writes of {claim.job}")
        row = self.rows.get(claim.job)
        if row is not None and row.status is Status.PROCESSING:
            self.put(self.endings.completed(row, output))
        return DONE


class PurgeOrphansQueueRow(MemoryQueue):
    def drop(self, job: JobId) -> None:
        self.put(self.rows[job]._replace(status=None))


TABLES: Final = Theme.of(
    "both tables in one transaction",
    Mistake(
        name="completes-one-table-only",
        sentence="Complete writes the user's row but leaves the queue's row active; reconcile skips finished jobs.",
        source="rails#55788: two stores, one write",
        finds=("tables_disagree",),
        queue=CompletesOneTableOnly,
    ),
    Mistake(
        name="completes-in-two-steps",
        sentence="Complete writes the two rows in two transactions, and its worker may die between them.",
        source="sidekiq PR#843, rails#51426",
        finds=("completed_before_started",),
        queue=CompletesInTwoSteps,
    ),
    Mistake(
        name="purge-orphans-queue-row",
        sentence="Deleting a job deletes the user's row, but not the queue's.",
        source="laravel#35266: half of a transaction is rolled back",
        finds=("orphan_row",),
        queue=PurgeOrphansQueueRow,
        statements={
            "delete_expired": (
                Edit(
                    """DELETE FROM "pgboss"."job" q USING past WHERE q."name" = past."name" AND q."id" = past."id"
  RETURNING past.job_id""",
                    """SELECT past.job_id FROM past""",
                ),
            ),
            "reconcile": (
                Edit(
                    """  SELECT q."name", q."id"
  FROM "pgboss"."job" q
  WHERE NOT EXISTS""",
                    """  SELECT q."name", q."id"
  FROM "pgboss"."job" q
  WHERE false AND NOT EXISTS""",
                ),
            ),
        },
    ),
)
