"""An actor's own session: psycopg's `AsyncConnection`, at which every statement is a gate; and a pool of such sessions.

`GatedConnection` overrides `wait`, the one place where psycopg's coroutines meet the socket. A statement suspends at a
gate, is sent when the kernel says so, and is in flight until it is answered. `ActorPool` stands where a library expects
a pool of connections: whatever is taken out of it is the actor's own session. Checked on psycopg 3.2.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import psycopg
from psycopg import generators, pq
from psycopg.pq.abc import PGresult
from psycopg.rows import tuple_row

from job_harness.core.sim import Point, Wait
from job_harness.errors import UsageError
from job_harness.worlds.postgres.absence import answered
from job_harness.worlds.sql import may_be_put_into_one, point_of

if TYPE_CHECKING:
    from job_harness.worlds.postgres.gating.coordinator import InFlightStatement, SessionCoordinator
    from job_harness.worlds.postgres.gating.pool import PooledSession

# a pool for one actor -------------------------------------------------------------------------------------------------


class ActorPool:
    """What of `psycopg_pool.AsyncConnectionPool` a queue's code uses, for one actor at a time."""

    def __init__(
        self, coordinator: SessionCoordinator, actor: str, *, autocommit: bool = True, row_factory: Any = tuple_row
    ) -> None:
        """Hand out the session of `actor`, set up as `kwargs` of a pool would."""
        self._coordinator = coordinator
        self._actor = actor
        self._autocommit = autocommit
        self._row_factory = row_factory

    @asynccontextmanager
    async def connection(self, *_: Any, **__: Any) -> AsyncIterator[GatedConnection]:
        """Lend the session; a transaction that is open at the end is committed, after an error rolled back."""
        connection = await self.getconn()
        try:
            yield connection
        except Exception:
            if not connection.closed and not connection.idle:
                await connection.rollback()
            raise
        if not connection.idle:
            await connection.commit()

    async def getconn(self, *_: Any, **__: Any) -> GatedConnection:
        """Return the session; an actor never waits for its own."""
        connection = self._coordinator.connection(self._actor, autocommit=self._autocommit)
        connection.row_factory = self._row_factory
        return connection

    async def putconn(self, connection: GatedConnection) -> None:
        """Take the session back: it stays the actor's."""

    async def open(self, *_: Any, **__: Any) -> None:
        """Do nothing: sessions are opened when they are asked for."""

    async def close(self, *_: Any, **__: Any) -> None:
        """Do nothing: sessions end with the run."""


# the session ----------------------------------------------------------------------------------------------------------


T = TypeVar("T")

OPEN: Final = (pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)
_STEPS: Final = {"_commit_gen": "commit", "_rollback_gen": "rollback", "_exit_gen": "end transaction"}


class GatedCursor(psycopg.AsyncCursor[Any]):
    """Tells its connection which statement is sent."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Send one statement: a gate."""
        self._tell_connection(query)
        return await super().execute(query, params, **options)

    async def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        """Send one statement for many parameters: one gate."""
        self._tell_connection(query)
        await super().executemany(query, params_seq, **options)

    def _tell_connection(self, query: Any) -> None:
        connection: Any = self.connection
        if isinstance(connection, GatedConnection):
            connection.about_to_send(_text(query, connection))


class GatedRawCursor(psycopg.AsyncRawCursor[Any]):
    """Tells its connection which statement is sent, whose parameters are `$1`, `$2`, ..."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Send one statement: a gate."""
        connection: Any = self.connection
        connection.about_to_send(_text(query, connection))
        return await super().execute(query, params, **options)


def _text(query: Any, connection: psycopg.AsyncConnection[Any]) -> str:
    if isinstance(query, bytes):
        return query.decode(errors="replace")
    return query if isinstance(query, str) else str(query.as_string(connection))


class GatedConnection(psycopg.AsyncConnection[Any]):
    """One actor's session. Everything psycopg offers works; each statement waits until the kernel lets it go.

    In autocommit mode a statement's commit is a gate of its own, `commit NAME`: between the two the
    statement has its locks and its effects are visible to none. One that wrote and locked nothing
    is committed at once.
    """

    def __init__(
        self, pooled: PooledSession, coordinator: SessionCoordinator, actor: str, *, autocommit: bool = True
    ) -> None:
        pooled.session.nonblocking = 1
        super().__init__(pooled.session, tuple_row)
        if pooled.prepared is not None:
            self._prepared = pooled.prepared
        self._autocommit = autocommit
        self._pass_on = self.pgconn.notice_handler
        self.pgconn.notice_handler = self._noticed
        self.flight: InFlightStatement | None = None
        """The statement that is under way."""
        self.actor = actor
        self.severed = False
        """Whether the actor died: it can do nothing any more."""
        self.cursor_factory = GatedCursor
        self._coordinator = coordinator
        self._sql: str | None = None
        self._point: str | None = None
        self._passed = False
        self._began_at: int | None = None

    @property
    def prepared(self) -> Any:
        """What psycopg remembers of the statements prepared in this session: it outlives this object."""
        return self._prepared

    @property
    def pid(self) -> int:
        """PostgreSQL's process behind this session."""
        return self.pgconn.backend_pid

    @property
    def socket(self) -> int:
        """The descriptor on which PostgreSQL answers."""
        return self.pgconn.socket

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return self.pgconn.transaction_status == pq.TransactionStatus.IDLE

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, and no statement under way."""
        return self.pgconn.transaction_status in OPEN

    def give_back(self) -> None:
        """Keep the session for the next run, cleaned; one that is in the middle of something is ended."""
        if not self.closed:
            self._coordinator.pool.give_back(self)

    def drop(self) -> None:
        """End the session, whatever it is doing."""
        self._coordinator.pool.drop(self.pgconn)

    def transaction_time(self) -> int:
        """Return the coordinator's clock at the transaction's first statement: what `now()` is to PostgreSQL.

        Where none is open, one begins now.
        """
        if self._began_at is None:
            self._began_at = self._coordinator.clock()
        return self._began_at

    def forget_time(self) -> None:
        """Take note that the transaction ended."""
        self._began_at = None

    @property
    def wrote(self) -> bool:
        """Whether the transaction that is open wrote or locked a row; if not, its end cannot be observed."""
        return self._wrote()

    def begin_now(self, sql: bytes) -> None:
        """Begin a transaction, by `sql`, at no gate: its begin cannot be observed from outside."""
        self._exec(sql)

    def end_now(self, *, commit: bool) -> None:
        """End a transaction at no gate: one that wrote nothing, or that is rolled back."""
        self._exec(b"COMMIT" if commit else b"ROLLBACK")
        self.forget_time()

    def about_to_send(self, sql: str) -> None:
        """Take the text of the next statement."""
        self._sql = sql

    async def gate(self, point: str) -> None:
        """Stand at a gate of this name now; the next statement is sent as soon as its turn has come."""
        await Point(point)
        self._point = point
        self._passed = True

    def _noticed(self, notice: PGresult) -> None:
        """Take what the session says about its waiting; everything else is for the caller's own handlers."""
        if notice.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) != b"LOG":
            if self._pass_on is not None:
                self._pass_on(notice)
            return
        words = notice.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        if self.flight is not None and (b"still waiting" in words or b"acquired" in words):
            self.flight.looked = b"still waiting" in words

    def __del__(self, *_: Any) -> None:
        """Nothing to warn of: the session belongs to the pool."""

    async def set_autocommit(self, value: bool) -> None:
        """Switch between a transaction for each statement and transactions of the caller's."""
        self._autocommit = value

    async def wait(self, gen: Generator[Any, Any, T], *_: Any, **__: Any) -> T:
        """Send a statement once its turn has come, and answer once PostgreSQL has."""
        if self.severed:
            raise psycopg.OperationalError(f"{self.actor} died: nothing that it still does has an effect")
        nested = getattr(self, "_num_transactions", 0) > 1
        step = None if nested else _STEPS.get(getattr(gen, "__name__", ""))
        sql, self._sql = self._sql, None
        point, self._point = self._point or step or (point_of(sql) if sql else "begin"), None
        passed, self._passed = self._passed, False
        if not passed and (sql or step):
            await Point(point)
        if sql:
            self.transaction_time()
        alone = sql is not None and self._autocommit and self.idle and may_be_put_into_one(sql)
        if alone:
            self._exec(b"BEGIN")
        try:
            value: T = await self._fly(gen, point, sql=sql or (step or "begin").upper())
        except Exception:
            if alone and self.pgconn.transaction_status in OPEN:
                self._exec(b"ROLLBACK")
            raise
        if alone and not self.idle and not self._wrote():
            self._exec(b"COMMIT")
            self.forget_time()
        elif alone and not self.idle:
            await Point(f"commit {point}")
            await self._fly(self._command(b"COMMIT"), f"commit {point}", sql="COMMIT")
        return value

    def notifies(self, *_: Any, **__: Any) -> Any:
        """Refuse: to wait for what may never come is not a statement. Raises UsageError."""
        raise UsageError(
            "a gated session cannot wait for notifications: it is unknown whether one is still to come",
            hint="Let the actor poll; LISTEN and add_notify_handler work, and hear with the next statement.",
        )

    async def _fly(self, gen: Generator[Any, Any, T], point: str, *, sql: str) -> T:
        flight = self._coordinator.release(self, gen, point, sql=sql)
        while not flight.done:
            await Wait(point, outside=self._coordinator, answered=lambda: flight.done)
        if self.severed:
            raise psycopg.OperationalError(f"{self.actor} died: nothing that it still does has an effect")
        answer: T = flight.result()
        return answer

    def _command(self, sql: bytes) -> Generator[Any, Any, Any]:
        self.pgconn.send_query(sql)
        results = yield from generators.execute(self.pgconn)
        for result in results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result)

    def _wrote(self) -> bool:
        """Say whether the transaction wrote or locked a row; if not, its end cannot be observed."""
        answer = self._answered(b"SELECT pg_current_xact_id_if_assigned() IS NOT NULL")
        return bool(answer.get_value(0, 0) == b"t")

    def _exec(self, sql: bytes) -> None:
        """Send what never waits for another session, and wait for it."""
        self._answered(sql)

    def _answered(self, sql: bytes) -> PGresult:
        try:
            result = answered(self.pgconn, sql, url=self._coordinator.pool.url)
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result)
        except psycopg.Error as error:
            self._coordinator.heed(error, f"during {sql.decode()!r} of {self.actor}")
            raise
        return result
