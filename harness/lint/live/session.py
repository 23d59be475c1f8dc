"""A read-only session with a limit on every statement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed

from harness.errors import EnvironmentUnavailable

LIMIT_SECONDS: Final = 10
CONNECT_SECONDS: Final = 10


class Session:
    """Answers queries within one snapshot; a statement that takes too long is told apart."""

    def __init__(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        self._connection = connection

    def rows(
        self, query: LiteralString | Composed | SQL, values: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Answer all rows. Raises TooSlow where the limit is reached."""
        try:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                cursor.execute(query, values)
                return cursor.fetchall()
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            raise TooSlow from None


class TooSlow(Exception):
    """A statement reached the limit."""


@contextmanager
def read_only(dsn: str) -> Iterator[Session]:
    """Open a session that cannot change anything: read-only, one snapshot, limits on statements and locks.

    Raises EnvironmentUnavailable where the database does not answer or refuses.
    """
    try:
        with psycopg.connect(
            dsn,
            row_factory=dict_row,
            connect_timeout=CONNECT_SECONDS,
            application_name="job-harness check",
            prepare_threshold=None,
        ) as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            with connection.transaction(force_rollback=True):
                connection.execute(f"SET LOCAL statement_timeout = '{LIMIT_SECONDS}s'")
                connection.execute("SET LOCAL lock_timeout = '2s'")
                connection.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
                yield Session(connection)
    except psycopg.Error as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EnvironmentUnavailable(
            f"--database: {reason}", hint="Give the URL of a PostgreSQL that answers, with a role that may read."
        ) from None
