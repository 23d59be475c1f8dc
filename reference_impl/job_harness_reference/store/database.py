"""The one door to PostgreSQL: send a statement, get its rows. Knows neither the verbs nor the tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import psycopg
from psycopg.rows import dict_row

from job_harness_reference.errors import StoreUnavailableError
from job_harness_reference.store.statements import Statement

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]

SESSION_SETTINGS: Final = (
    "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off; "
    "SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off"
)
"""How every session of the store plans: once, along the indexes, whatever the statistics say.

A queue's tables are empty when its first statements are prepared and full a minute later. Planned
freely, a claim prepared on empty tables sorts or hashes all that has come since, until ANALYZE
runs; with 3 000 jobs pending a claim and its completion then took 9 ms with nested loops alone, and
0.23 ms with these settings, before ANALYZE as after. Compilation is off because up to PostgreSQL 17
a plan that cannot do without what is switched off counts as so costly that it would be compiled
each time, for 0.1 s.
"""

_AWAY: Final = ("08", "53", "57P")
"""Classes of SQLSTATE: no connection, no resources left, shut down or starting by an operator."""


class Database(Protocol):
    """What a PostgreSQL store needs of its driver."""

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        """Run one statement as a transaction of its own and return its rows, keyed by column.

        JSON comes as text. psycopg's errors pass through: the store knows what `UniqueViolation` and
        `CheckViolation` mean.
        """


async def _fetch(
    connection: Connection, statement: Statement, parameters: Mapping[str, object], *, prepare: bool = True
) -> list[Row]:
    query = statement.text
    cursor = await connection.execute(query, parameters, prepare=prepare)
    return await cursor.fetchall() if cursor.description else []


class ConnectionDatabase:
    """A database behind one connection, which must be in autocommit mode."""

    def __init__(self, connection: Connection) -> None:
        """Use `connection`; the caller, who opened it, closes it."""
        self._connection = connection

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        """Run one statement; callers at the same time take turns."""
        return await _fetch(self._connection, statement, parameters)


class PoolDatabase:
    """A database behind a pool, one connection a statement."""

    def __init__(self, pool: AsyncConnectionPool[Connection], *, own_sessions: bool = True) -> None:
        """Use `pool`; the caller, who opened it, closes it. Nothing is prepared unless its sessions are its own."""
        self._pool = pool
        self._own_sessions = own_sessions

    async def fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        """Run one statement on a free connection, once more where it fell victim to another; waits if there is none.

        Raises `StoreUnavailableError` where the server goes away, or no connection comes free.
        """
        try:
            return await self._fetch(statement, parameters)
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
            return await self._fetch(statement, parameters)

    async def _fetch(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        try:
            async with self._pool.connection() as connection:
                return await _fetch(connection, statement, parameters, prepare=self._own_sessions)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if is_away(error):
                raise StoreUnavailableError(f"The database did not answer ({type(error).__name__}).") from error
            raise


def is_away(error: psycopg.Error) -> bool:
    """Tell whether the server could not be reached or takes nothing on now; otherwise it refused this statement."""
    return error.sqlstate is None or error.sqlstate.startswith(_AWAY)


async def configure(connection: Connection) -> None:
    """Make a connection plan as the store wants it."""
    await connection.execute(SESSION_SETTINGS, prepare=False)


async def connect(dsn: str, *, own_session: bool = True) -> Connection:
    """Open one connection as the store wants it: autocommit, rows as dicts, plans along the indexes.

    Behind a proxy that pools transactions the session is not its own, and is left as it is.
    """
    connection = await psycopg.AsyncConnection[Row].connect(dsn, autocommit=True, row_factory=dict_row)
    try:
        if own_session:
            await configure(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


@asynccontextmanager
async def open_database(
    dsn: str,
    *,
    max_size: int = 4,
    timeout_seconds: float = 30.0,
    wait_seconds: float | None = None,
    own_sessions: bool = True,
) -> AsyncIterator[PoolDatabase]:
    """Open a pool for the time of a `with` block.

    A statement waits `wait_seconds` for a free connection, as long as opening may take unless
    given. A proxy that pools transactions lends each to a session of somebody's: without
    `own_sessions` none is set up and nothing is prepared. Raises `psycopg_pool.PoolTimeout` where
    no connection could be made within `timeout_seconds`.
    """
    from psycopg_pool import AsyncConnectionPool  # Only a pool needs it: a single connection does without.

    pool = AsyncConnectionPool[Connection](
        dsn,
        kwargs={"autocommit": True, "row_factory": dict_row},
        configure=configure if own_sessions else None,
        min_size=1,
        max_size=max_size,
        timeout=timeout_seconds if wait_seconds is None else wait_seconds,
        open=False,
        name="job_harness_reference",
    )
    try:
        await pool.open(wait=True, timeout=timeout_seconds)
        yield PoolDatabase(pool, own_sessions=own_sessions)
    finally:
        await pool.close()
