"""The reference queue on PostgreSQL: one database emptied between runs, sessions of actors' own, verbs in statements.

The last are as many an application writes them: read, check, write, in one transaction over the two
tables. One spelling is right, the others are wrong, and which one it is comes as a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

import psycopg
from psycopg.rows import dict_row

from job_harness.core.history import DONE, Outcome, done
from job_harness.core.model import Instant, JobId, JobView, Json, Settings
from job_harness.core.port import Capabilities, Claim, EngineClocks, Reply, Sent
from job_harness.core.sim import Point
from job_harness.engines.reference.queue import STALE, ReferenceQueue, Settlement, length_of, store_time, view_of
from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.postgres import provision
from job_harness.worlds.postgres.absence import PatientConnection, classify_error
from job_harness.worlds.postgres.gating import GatedConnection, SessionCoordinator
from job_harness.worlds.postgres.pipeline import UNREAD, PreparedQuery, StatementPipeline
from job_harness_reference.errors import InvalidJsonError
from job_harness_reference.json_values import encode
from job_harness_reference.models import Claim as StoreClaim
from job_harness_reference.store.database import SESSION_SETTINGS, Row
from job_harness_reference.store.migrations import migrations
from job_harness_reference.store.postgres import PostgresStore
from job_harness_reference.store.row_values import job_row_of
from job_harness_reference.store.statements import Statement, Statements

if TYPE_CHECKING:
    from job_harness.worlds.postgres import Cluster
    from job_harness.worlds.postgres.gating import GatedConnection

_EMPTY: Final = [
    PreparedQuery(b"DELETE FROM " + table) for table in (b"pgboss.job", b"public.tool_job", b'public."user"')
]
_VACUUM_EVERY: Final = 200
"""Resets: dead rows of runs before slow every scan of small tables."""
_PARAMETER: Final = re.compile(r"%(?:%|\((\w+)\)s)")


@cache
def _numbered(text: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a statement of the store's with `$1`, `$2`, ... in the places of its parameters, and their names."""
    names = tuple(dict.fromkeys(filter(None, _PARAMETER.findall(text))))
    numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}" if found[1] else "%", text)
    return numbered.encode(), names


LOOK: Final = PreparedQuery(_numbered(Statements().get("rows").text)[0], kept=True)
"""Reads both rows of every job."""


class SyncDatabase:
    """The store's door to PostgreSQL over a blocking session: a fetch ends in one step, unless it is gated."""

    def __init__(self, session: ReferenceDatabase, *, gated_by: Callable[[], datetime] | None = None) -> None:
        """Send statements to `session`.

        With the store's clock in `gated_by`, suspend before each statement at a point of its name,
        and read that clock only when the statement is sent: a database's own clock does no less.
        """
        self._session = session
        self._clock = gated_by

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        """Run one statement as a transaction of its own."""
        if self._clock is not None:
            await Point(statement.name)
            if "now" in parameters:
                parameters = {**parameters, "now": self._clock()}
        return self._session.run(statement, parameters)


class ReferenceDatabase:
    """One connection to a database of its own, on a server provided once."""

    def __init__(self, dsn: str | None = None) -> None:
        """Provision a PostgreSQL and migrate a new database on it.

        Raises EnvironmentUnavailable if there is none.
        """
        self.cluster: Cluster = provision(dsn)
        self.tools: set[str] = set()
        """The slugs that have a partition: partitions outlive a reset."""
        self._resets = 0
        self._rows: list[Row] | None = None
        """What stands in the tables, where that was read after the last statement."""
        self._unread = 0
        """How many statements were run since it was asked for."""
        try:
            self.url = self.cluster.create_database()
            self._connection = PatientConnection.to(self.url)
            self._pipeline = StatementPipeline(self._connection)
            self._migrate()
        except BaseException:
            self.cluster.stop()
            raise

    def _migrate(self) -> None:
        # Not through the store's own `migrate`, which needs an event loop: the caller may be inside one.
        with self._connection.transaction():
            for migration in migrations():
                self._connection.execute(migration.sql.encode(), prepare=False)
        self._connection.execute(SESSION_SETTINGS.encode(), prepare=False)

    @property
    def alive(self) -> bool:
        """Whether the session was not seen to break."""
        return not (self._connection.closed or self._connection.broken)

    @property
    def pid(self) -> int:
        """The server's process that serves this session."""
        return self._connection.info.backend_pid

    def run(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        """Run one statement, and read on the same way what it left in the tables.

        Raises EnvironmentUnavailable where PostgreSQL went away, and psycopg's errors for what it
        refused.
        """
        text, names = _numbered(statement.text)
        query = PreparedQuery(text, [parameters[name] for name in names])
        along = (LOOK,) if self._unread < UNREAD else ()
        self._unread += 1
        answer, *left = self._sent(query, *along, when=f"during {statement.name!r}")
        self._rows = left[0] if left else None
        return answer

    def rows(self, *, anew: bool = False) -> list[Row]:
        """Return both rows of every job, read `anew` where other sessions write them too."""
        self._unread = 0
        if anew or self._rows is None:
            (self._rows,) = self._sent(LOOK, when="while jobs were read")
        return self._rows

    def reset(self) -> None:
        """Empty every table; partitions stay."""
        when = "while the tables were emptied"
        self._sent(*_EMPTY, when=when)
        self._resets += 1
        if self._resets % _VACUUM_EVERY == 0:
            with self._judging(when):
                self._connection.execute(b"VACUUM pgboss.job, public.tool_job", prepare=False)

    def _sent(self, *queries: PreparedQuery, when: str) -> list[list[Row]]:
        self._rows = None
        with self._judging(when):
            return self._pipeline.run(*queries)

    @contextmanager
    def _judging(self, when: str) -> Iterator[None]:
        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise classify_error(error, when=when, cluster=self.cluster, broken=not self.alive) from error

    def close(self) -> None:
        """End the session and what was provided for it. Never raises."""
        try:
            self._connection.close()
            self.cluster.stop()
        except (psycopg.Error, OSError, EnvironmentUnavailable):
            return  # It is gone already, and its supervisor sees to the rest.

    def confirm(self) -> None:
        """Look whether the server is there as it was. Raises EnvironmentUnavailable where it is not."""
        self._connection.confirm(tail=self.cluster.log_tail)


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
        clocks: EngineClocks,
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
        from job_harness.worlds.sql import point_of

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


class GatedDatabase:
    """The store's door over an actor's session: a gate before each statement, and one before its commit."""

    def __init__(self, connection: Callable[[], GatedConnection]) -> None:
        """Ask for the session at every statement: one that was lost is replaced."""
        self._connection = connection

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        """Run one statement as a transaction of its own; the store's clock is read when its turn has come."""
        connection = self._connection()
        await connection.gate(statement.name)
        if "now" in parameters:
            parameters = {**parameters, "now": store_time(connection.transaction_time())}
        cursor = connection.cursor(row_factory=dict_row)
        await cursor.execute(statement.text.encode(), parameters, prepare=True)
        return await cursor.fetchall() if cursor.description else []


class PostgresQueue(ReferenceQueue):
    """The reference queue on one session: what a job looks like is worked out anew only where its rows changed."""

    def __init__(
        self,
        settings: Settings,
        clocks: EngineClocks,
        jitter: Callable[[], float],
        *,
        session: ReferenceDatabase,
        stepped: bool = False,
        statements: Mapping[str, str] | None = None,
    ) -> None:
        """Look through `session`, and send verbs over it; `stepped`, each of their statements is a gate."""
        super().__init__(settings, clocks, jitter, tools=session.tools, stepped=stepped)
        self._session = session
        self._known: dict[JobId, tuple[Row, JobView]] = {}
        """By job, the rows that were read last, and what they come to."""
        door = SyncDatabase(session, gated_by=self.now if stepped else None)
        self.store = PostgresStore(door, now=self.now, jitter=self.jitter, statements=statements)
        self.observed = PostgresStore(SyncDatabase(session), now=self.now, jitter=self.jitter)

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs, oldest first."""
        return self._viewed(self._session.rows())

    def _viewed(self, rows: list[Row]) -> dict[JobId, JobView]:
        known, self._known = self._known, {}
        for row in rows:
            before = known.get(row["id"])
            self._known[row["id"]] = (
                before if before is not None and before[0] is row else (row, view_of(job_row_of(row)))
            )
        return {job: view for job, (_, view) in self._known.items()}


class GatedReferenceQueue(PostgresQueue):
    """Sees all jobs from a session of its own; `on_behalf` returns the queue of one actor."""

    capabilities: ClassVar[Capabilities] = replace(ReferenceQueue.capabilities, sessions=True)

    def __init__(
        self,
        settings: Settings,
        clocks: EngineClocks,
        jitter: Callable[[], float],
        *,
        session: ReferenceDatabase,
        room: SessionCoordinator,
        statements: Mapping[str, str] | None = None,
        settlement: Settlement | None = None,
    ) -> None:
        """Look through `session`; give actors their own from `room`, which closes with the queue."""
        super().__init__(settings, clocks, jitter, session=session, stepped=True)
        self.store = self.observed
        self._room = room
        self._statements = statements
        self._settlement = settlement
        self._of: dict[str, ReferenceQueue] = {}
        self._seen: dict[JobId, JobView] = {}
        self._revision = -1
        self._news = False

    def on_behalf(self, actor: str) -> ReferenceQueue:
        """Return the queue as this actor's session reaches it; all of them share what claims were issued."""
        queue = self._of.get(actor)
        if queue is None:
            queue = self._of[actor] = self._opened(lambda: self._room.connection(actor))
        return queue

    def _opened(self, connection: Callable[[], GatedConnection]) -> ReferenceQueue:
        about = (self.settings, self._clocks, self._jitter)
        if self._settlement is None:
            queue = ReferenceQueue(*about, tools=self._tools, stepped=True)
        else:
            queue = OwnVerbs(*about, tools=self._tools, connection=connection, settlement=self._settlement)
        door = GatedDatabase(connection)
        queue.store = PostgresStore(door, now=queue.now, jitter=queue.jitter, statements=self._statements)
        queue.observed = self.observed
        queue.share(self)
        return queue

    def sever(self, actor: str) -> Callable[[], None]:
        """Take a dead actor's session from it; return what drops it."""
        return self._room.sever(actor)

    def made_at(self) -> Instant:
        """Return the store's clock at the first statement of the transaction that ended last."""
        return self._room.made_at

    def leftovers(self) -> list[str]:
        """Say what actors left open."""
        return self._room.leftovers()

    def statements(self) -> list[Sent]:
        """Return what actors' sessions were sent since this was last asked."""
        return self._room.sent()

    def jobs(self) -> dict[JobId, JobView]:
        """Read all jobs where a transaction may have ended since."""
        self._news = self._revision != self._room.revision
        if self._news:
            self._revision = self._room.revision
            self._seen = self._viewed(self._session.rows(anew=True))
        return self._seen

    def changed(self) -> list[JobId] | None:
        """Nothing, as long as no transaction ended; after that, what was touched is unknown."""
        return None if self._news else []

    def close(self) -> None:
        """Give all sessions back."""
        self._room.close()
