"""The PostgreSQL behind the reference engine: one migrated database, one session, emptied between runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.rows import dict_row

from harness.errors import EnvironmentUnavailable
from harness.postgres import provision
from harness.sim.request import Point
from reference_impl.store.database import SESSION_SETTINGS, Row
from reference_impl.store.migrations import migrations
from reference_impl.store.statements import Statement

if TYPE_CHECKING:
    from harness.postgres import Cluster

_EMPTY: Final = b'DELETE FROM pgboss.job; DELETE FROM public.tool_job; DELETE FROM public."user"'
_VACUUM_EVERY: Final = 200
"""Resets: dead rows of runs before slow every scan of small tables."""


class SyncDatabase:
    """The store's door to PostgreSQL over a blocking session: a fetch ends in one step, unless it is gated."""

    def __init__(self, session: Session, *, gated_by: Callable[[], datetime] | None = None) -> None:
        """Send statements to `session`.

        With the store's clock in `gated_by`, suspend before each statement at a point of its name, and read that
        clock only when the statement is sent: a database's own clock does no less.
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


class Session:
    """One connection to a database of its own, on a server provided once."""

    def __init__(self, dsn: str | None = None) -> None:
        """Provision a PostgreSQL and migrate a new database on it.

        Raises EnvironmentUnavailable where there is none.
        """
        self.cluster: Cluster = provision(dsn)
        self.tools: set[str] = set()
        """The slugs that have a partition: partitions outlive a reset."""
        self._resets = 0
        try:
            self.url = self.cluster.create_database()
            self._connection = psycopg.Connection[Row].connect(self.url, autocommit=True, row_factory=dict_row)
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
    def pid(self) -> int:
        """The server's process that serves this session."""
        return self._connection.info.backend_pid

    def run(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        """Run one statement.

        Raises EnvironmentUnavailable where PostgreSQL went away, and psycopg's errors for what it refused.
        """
        try:
            cursor = self._connection.execute(statement.text.encode(), parameters, prepare=True)
            return cursor.fetchall() if cursor.description else []
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise self._judged(error, f"during {statement.name!r}") from error

    def reset(self) -> None:
        """Empty every table; partitions stay."""
        try:
            self._connection.execute(_EMPTY, prepare=False)
            self._resets += 1
            if self._resets % _VACUUM_EVERY == 0:
                self._connection.execute(b"VACUUM pgboss.job, public.tool_job", prepare=False)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise self._judged(error, "while the tables were emptied") from error

    def close(self) -> None:
        """End the session and what was provided for it. Never raises."""
        try:
            self._connection.close()
            self.cluster.stop()
        except (psycopg.Error, OSError, EnvironmentUnavailable):
            return  # It is gone already, and its supervisor sees to the rest.

    def _judged(self, error: Exception, when: str) -> Any:
        """Return the error itself where the session lives on, else that the environment is gone."""
        if not (self._connection.closed or self._connection.broken):
            return error
        words = " ".join(str(error).split())
        tail = self.cluster.log_tail()
        return EnvironmentUnavailable(
            f"PostgreSQL went away {when}: {words}" + (f"\n{tail}" if tail else ""),
            hint="It was stopped or killed while in use: nothing can be said about this run. Start it again.",
        )
