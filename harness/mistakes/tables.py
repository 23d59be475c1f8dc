"""Mistakes in keeping the user's row and the queue's row together."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from harness.adapters.memory import MemoryQueue
from harness.history.outcome import DONE, Outcome
from harness.mistakes.mistake import Edit, Mistake
from harness.model.job import JobId, JobView, Json
from harness.model.lifecycle import QueueState, Status
from harness.port import Claim
from harness.sim.request import Point


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
        row = self.held(claim, "complete")
        if row is None or self.output_problem(output):
            return super().complete(claim, output)
        self.put(row._replace(queue_state=QueueState.COMPLETED, lease_until=None))
        yield Point(f"between the writes of {claim.job}")
        row = self.rows.get(claim.job)
        if row is not None and row.status is Status.PROCESSING:
            self.put(self.completed(row, output))
        return DONE


class PurgeOrphansQueueRow(MemoryQueue):
    def drop(self, job: JobId) -> None:
        self.put(self.rows[job]._replace(status=None))


MISTAKES: Final = (
    Mistake(
        name="completes-one-table-only",
        sentence="Complete writes the user's row and leaves the queue's active; reconcile skips finished jobs.",
        source="rails#55788: two stores, one write",
        finds=("tables_disagree",),
        queue=CompletesOneTableOnly,
    ),
    Mistake(
        name="completes-in-two-steps",
        sentence="Complete writes both rows in transactions of their own, and its worker may die between them.",
        source="sidekiq PR#843, rails#51426",
        finds=("completed_before_started",),
        queue=CompletesInTwoSteps,
    ),
    Mistake(
        name="purge-orphans-queue-row",
        sentence="Deleting a job deletes the user's row and leaves the queue's.",
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
