"""Complete, expire and rescue as many an application writes them: read, check, write, in one transaction of several
statements over the two tables. Right in one spelling, wrong in the others; which one is a value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.adapters.reference.queue import STALE, ReferenceQueue
from harness.adapters.reference.translation import length_of, store_time
from harness.history.outcome import DONE, Outcome, done
from harness.model.job import Json
from harness.model.settings import Settings
from harness.port import Claim, Clocks, Reply
from reference_impl.errors import InvalidJsonError
from reference_impl.json_values import encode
from reference_impl.models import Claim as StoreClaim

if TYPE_CHECKING:
    from harness.postgres.gating import GatedConnection


@dataclass(frozen=True, slots=True)
class Settlement:
    """How the verbs are written."""

    compares: bool = True
    """Whether each write asks once more for what was read: compare and set on status, token and time."""
    locks: bool = False
    """Whether what is read is locked, `FOR UPDATE`."""
    same_order: bool = True
    """Whether all take the queue's row first, as every other verb does; if not, complete takes `tool_job` first."""


READ_SHOWN: Final = 'SELECT "status"::text, "token" FROM "public"."tool_job" WHERE "id" = %(job)s'
READ_QUEUED: Final = """
SELECT "state"::text, "token" FROM "pgboss"."job" WHERE "name" = %(tool)s AND "id" = %(queue_id)s::uuid"""
SHOW_COMPLETED: Final = """
UPDATE "public"."tool_job" t
SET "status" = 'COMPLETED', "output" = %(output)s::jsonb, "error" = NULL, "completedAt" = %(now)s,
    "updatedAt" = %(now)s, "expiresAt" = %(now)s + (
      SELECT q."keep" FROM "pgboss"."job" q WHERE q."name" = %(tool)s AND q."id" = %(queue_id)s::uuid)
WHERE t."id" = %(job)s"""
SETTLE_COMPLETED: Final = """
UPDATE "pgboss"."job" q
SET "state" = 'completed', "completed_on" = %(now)s, "lease_until" = NULL, "worker" = NULL
WHERE q."name" = %(tool)s AND q."id" = %(queue_id)s::uuid"""
OVERDUE: Final = """
SELECT t."id" AS job, q."name" AS tool, q."id" AS queue_id, q."token", q."retry_count" < q."retry_limit" AS again
FROM "pgboss"."job" q JOIN "public"."tool_job" t ON t."pgBossJobId" = q."id"::text
WHERE t."status" = 'PROCESSING' AND q."state" = 'active' AND """
ORDERED: Final = ' ORDER BY t."id" COLLATE "C"'
LEASE_OVER: Final = 'q."lease_until" <= %(now)s'
STUCK: Final = "q.\"started_on\" <= %(now)s - %(stuck_after)s * INTERVAL '1 microsecond'"
SHOW_TAKEN_BACK: Final = """
UPDATE "public"."tool_job" t
SET "status" = CASE WHEN %(again)s THEN 'PENDING' ELSE 'FAILED' END::"public"."ToolJobStatus",
    "error" = 'taken back from a worker that did not settle it', "updatedAt" = %(now)s,
    "completedAt" = CASE WHEN %(again)s THEN NULL ELSE %(now)s END,
    "expiresAt" = CASE WHEN %(again)s THEN NULL
      ELSE %(now)s + (SELECT q."keep" FROM "pgboss"."job" q WHERE q."name" = %(tool)s AND q."id" = %(queue_id)s) END
WHERE t."id" = %(job)s"""
SETTLE_TAKEN_BACK: Final = """
UPDATE "pgboss"."job" q
SET "state" = CASE WHEN %(again)s THEN 'retry' ELSE 'failed' END::"pgboss"."job_state",
    "start_after" = CASE WHEN NOT %(again)s THEN q."start_after" ELSE %(now)s + "pgboss".retry_after(
      q."retry_delay", q."retry_backoff", q."retry_delay_max", q."retry_count",
      "pgboss".spread(%(jitter)s, %(nth)s)) END,
    "completed_on" = CASE WHEN %(again)s THEN NULL ELSE %(now)s END, "lease_until" = NULL, "worker" = NULL
WHERE q."name" = %(tool)s AND q."id" = %(queue_id)s"""
STILL_SHOWN: Final = """ AND t."status" = 'PROCESSING' AND t."token" = %(token)s"""
STILL_ACTIVE: Final = """ AND q."state" = 'active' AND q."token" = %(token)s"""


class OwnVerbs(ReferenceQueue):
    """The reference queue for one actor, with complete, expire and rescue written by hand."""

    def __init__(
        self,
        settings: Settings,
        clocks: Clocks,
        jitter: Callable[[], float],
        *,
        tools: set[str],
        connection: Callable[[], GatedConnection],
        settlement: Settlement,
    ) -> None:
        super().__init__(settings, clocks, jitter, tools=tools, stepped=True)
        self._connection = connection
        self._how = settlement

    async def _send(self, sql: str, **values: Any) -> Any:
        """Send a statement; the store's clock is read once the transaction's first has its turn."""
        from harness.postgres.gating.connection import point_of

        connection = self._connection()
        await connection.gate(point_of(sql))
        return await connection.execute(
            sql.encode(), {**values, "now": store_time(connection.transaction_time())}, prepare=True
        )

    async def _write(self, sql: str, still: str, **values: Any) -> bool:
        """Write one row; False where it is no longer what was read."""
        cursor = await self._send(sql + (still if self._how.compares else ""), **values)
        return bool(cursor.rowcount)

    def complete(self, claim: Claim, output: Json) -> Reply:
        """Settle as a success."""
        return self._completed(claim, output)

    async def _completed(self, claim: Claim, output: Json) -> Outcome:
        held: StoreClaim = self._presented(claim)
        values = {"job": claim.job, "tool": claim.tool, "queue_id": held.job.pgboss_job_id, "token": claim.token}
        try:
            values["output"] = encode(output)
        except InvalidJsonError as error:
            return Outcome.refused(f"invalid output: {error}")
        async with self._connection().transaction() as transaction:
            first, held_as = (READ_QUEUED, "active") if self._how.same_order else (READ_SHOWN, "PROCESSING")
            read = await self._send(first + (" FOR UPDATE" if self._how.locks else ""), **values)
            settled = await read.fetchone() == (held_as, claim.token)
            writes = [(SETTLE_COMPLETED, STILL_ACTIVE), (SHOW_COMPLETED, STILL_SHOWN)]
            for sql, still in writes if self._how.same_order else reversed(writes):
                settled = settled and await self._write(sql, still, **values)
            if not settled:
                raise _rollback(transaction)
        return DONE if settled else STALE

    def expire(self) -> Reply:
        """Take back every claim whose lease ran out."""
        return self._taken_back(LEASE_OVER)

    def rescue(self) -> Reply:
        """Take back what is PROCESSING for as long as the stuck timeout."""
        return self._taken_back(STUCK)

    async def _taken_back(self, overdue: str) -> Outcome:
        stuck_after = length_of(self.settings.stuck_timeout) // length_of(1)
        jitter = self.jitter()
        taken: list[str] = []
        async with self._connection().transaction():
            lock = " FOR UPDATE OF q" if self._how.locks else ""
            read = await self._send(OVERDUE + overdue + ORDERED + lock, stuck_after=stuck_after)
            names = [column.name for column in read.description or ()]
            for nth, row in enumerate(await read.fetchall()):
                values = {
                    **dict(zip(names, row, strict=True)),
                    "jitter": jitter,
                    "nth": nth,
                    "stuck_after": stuck_after,
                }
                if await self._take_back(values, overdue):
                    taken.append(values["job"])
        return done(taken)

    async def _take_back(self, values: dict[str, Any], overdue: str) -> bool:
        """Take one job back, or leave it whole where it is no longer overdue."""
        writes = [(SETTLE_TAKEN_BACK, f"{STILL_ACTIVE} AND {overdue}"), (SHOW_TAKEN_BACK, STILL_SHOWN)]
        whole = True
        async with self._connection().transaction() as savepoint:
            for sql, still in writes:
                whole = whole and await self._write(sql, still, **values)
            if not whole:
                raise _rollback(savepoint)
        return whole


def _rollback(transaction: Any) -> Exception:
    import psycopg

    return psycopg.Rollback(transaction)
