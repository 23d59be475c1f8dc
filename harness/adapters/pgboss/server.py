"""The PostgreSQL behind pg-boss: one database whose clock and chance are ours, emptied between runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.rows import dict_row

from harness.adapters.pgboss.package import SCHEMA, Package
from harness.adapters.pgboss.translation import timestamp_of
from harness.errors import EnvironmentUnavailable
from harness.model.duration import Instant
from harness.postgres import provision, virtual_chance, virtual_clock

if TYPE_CHECKING:
    from harness.postgres import Cluster

Row = dict[str, Any]

_EMPTY: Final = f"DELETE FROM {SCHEMA}.job; DELETE FROM {SCHEMA}.archive".encode()
_COLUMNS: Final = (
    "id, name, data, state, priority, retry_limit, retry_count, start_after, started_on, expire_in, singleton_key, "
    "created_on, completed_on, output, dead_letter"
)
_LOOK: Final = (
    f"SELECT {_COLUMNS} FROM {SCHEMA}.job UNION ALL SELECT {_COLUMNS} FROM {SCHEMA}.archive ORDER BY created_on, id"
).encode()
_VACUUM_EVERY: Final = 200
"""Resets: dead rows of runs before slow every scan of small tables."""


class Session:
    """One connection to a database of its own, on a server provided once."""

    def __init__(self, package: Package, dsn: str | None = None) -> None:
        """Provision a PostgreSQL and let pg-boss's own statements create its schema there.

        Raises EnvironmentUnavailable where there is none, or where its clock cannot be made virtual.
        """
        self.cluster: Cluster = provision(dsn)
        self.queues: set[str] = set()
        """Queues that exist: their partitions outlive a reset."""
        self._statements = {name: text.encode() for name, text in package.statements.items() if text}
        self._resets = 0
        try:
            url = self.cluster.create_database()
            self._connection = psycopg.Connection[Row].connect(
                url, autocommit=True, row_factory=dict_row, cursor_factory=psycopg.RawCursor
            )
            self._own = psycopg.connect(url, autocommit=True)
            virtual_clock.install(self._own)
            virtual_chance.install(self._own)
            self._connection.execute(self._statements["create"], prepare=False)
            virtual_clock.check(self._own)
        except BaseException:
            self.cluster.stop()
            raise

    def has(self, name: str) -> bool:
        """Whether this version of the library has a statement of this name."""
        return name in self._statements

    def set_now(self, instant: Instant) -> None:
        """Move the database's clock."""
        self._guarded(lambda: virtual_clock.set_now(self._own, timestamp_of(instant)), "while time moved")

    def set_chance(self, fraction: float) -> None:
        """Say what random() answers from here on."""
        self._guarded(lambda: virtual_chance.set_next(self._own, fraction), "while chance was set")

    def run(self, name: str, parameters: Sequence[Any] | None = None) -> list[Row]:
        """Run one statement by name; `expire`, `archive` and `drop` bring their own transaction.

        Raises EnvironmentUnavailable where PostgreSQL went away, and psycopg's errors for what it refused.
        """
        text = self._statements[name]
        return self._guarded(lambda: self._run(text, parameters), f"during {name!r}")

    def _run(self, text: bytes, parameters: Sequence[Any] | None) -> list[Row]:
        try:
            cursor = self._connection.execute(text, parameters, prepare=parameters is not None)
        except psycopg.Error:
            if parameters is None and not self._connection.closed:
                self._connection.execute(b"ROLLBACK", prepare=False)
            raise
        return cursor.fetchall() if cursor.description else []

    def rows(self) -> list[Row]:
        """Read all jobs, archived ones too, oldest first."""
        return self._guarded(lambda: self._connection.execute(_LOOK, prepare=True).fetchall(), "while looking")

    def create_queue(self, name: str) -> None:
        """Create a queue and its partition, once."""
        if name not in self.queues:
            self.run("create_queue", [name, '{"policy": "standard"}'])
            self.queues.add(name)

    def reset(self) -> None:
        """Delete every job; queues stay."""
        self._guarded(self._reset, "while the tables were emptied")

    def _reset(self) -> None:
        self._connection.execute(_EMPTY, prepare=False)
        self._resets += 1
        if self._resets % _VACUUM_EVERY == 0:
            self._connection.execute(f"VACUUM {SCHEMA}.job, {SCHEMA}.archive".encode(), prepare=False)

    def close(self) -> None:
        """End the session and what was provided for it. Never raises."""
        try:
            self._connection.close()
            self._own.close()
            self.cluster.stop()
        except (psycopg.Error, OSError, EnvironmentUnavailable):
            return  # It is gone already, and its supervisor sees to the rest.

    def _guarded(self, work: Any, when: str) -> Any:
        try:
            return work()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if not (self._connection.closed or self._connection.broken):
                raise
            words = " ".join(str(error).split())
            tail = self.cluster.log_tail()
            raise EnvironmentUnavailable(
                f"PostgreSQL went away {when}: {words}" + (f"\n{tail}" if tail else ""),
                hint="It was stopped or killed while in use: nothing can be said about this run. Start it again.",
            ) from error
