"""A running database, read and never changed: where the tables are, and the settings that it holds itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed, Identifier

from harness.errors import EnvironmentUnavailable
from harness.lint.facts import Column, Facts, Place, SettingSource, Value
from harness.lint.readers.schema import scalar_of, tokens_of
from harness.lint.settings import meaning_of

LIMIT_SECONDS: Final = 10
CONNECT_SECONDS: Final = 10


class ReadOnlySession:
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
def read_only(dsn: str) -> Iterator[ReadOnlySession]:
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
                yield ReadOnlySession(connection)
    except psycopg.Error as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EnvironmentUnavailable(
            f"--database: {reason}", hint="Give the URL of a PostgreSQL that answers, with a role that may read."
        ) from None


_USERS: Final = {
    "id": ("id",),
    "slug": ("toolSlug", "tool_slug"),
    "status": ("status",),
    "link": ("pgBossJobId", "pg_boss_job_id"),
    "attempts": ("attempts",),
    "max_attempts": ("maxAttempts", "max_attempts"),
    "created": ("createdAt", "created_at"),
    "started": ("startedAt", "started_at"),
    "updated": ("updatedAt", "updated_at"),
    "completed": ("completedAt", "completed_at"),
    "expires": ("expiresAt", "expires_at"),
}
_QUEUE: Final = {
    "id": ("id",),
    "name": ("name",),
    "state": ("state",),
    "data": ("data",),
    "retry_limit": ("retry_limit",),
    "start_after": ("start_after",),
    "created": ("created_on", "createdon"),
    "started": ("started_on", "startedon"),
    "lease_until": ("lease_until",),
    "expire_in": ("expire_in", "expirein"),
    "expire_seconds": ("expire_seconds",),
}


@dataclass(frozen=True, slots=True)
class JobTable:
    """A table, and its columns by what they mean; what is missing reads as null."""

    schema: str
    name: str
    columns: Mapping[str, str]
    defaults: Mapping[str, str]

    @property
    def place(self) -> Place:
        """Say where a finding in it is."""
        return Place(f"database/{self.schema}.{self.name}", 1)

    def has(self, *meanings: str) -> bool:
        """Whether it has all of these columns."""
        return all(meaning in self.columns for meaning in meanings)

    def column(self, alias: str, meaning: str, kind: str = "timestamptz") -> Composed:
        """Write a column, or a null of its type."""
        if meaning not in self.columns:
            return SQL("null::{}").format(Identifier(kind))
        return SQL("{}.{}").format(Identifier(alias), Identifier(self.columns[meaning]))

    @property
    def full(self) -> Composed:
        """Write its name."""
        return SQL("{}.{}").format(Identifier(self.schema), Identifier(self.name))


@dataclass(frozen=True, slots=True)
class JobTables:
    """What of the two tables is there."""

    users: JobTable | None
    queue: JobTable | None


_LOOK = """
  SELECT n.nspname AS schema, c.relname AS name, a.attname AS attribute,
         pg_get_expr(d.adbin, d.adrelid) AS default_text
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
   WHERE c.relkind IN ('r', 'p') AND c.relname IN ('tool_job', 'ToolJob', 'job') AND NOT c.relispartition
     AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   ORDER BY n.nspname, c.relname, a.attnum
"""


def find_tables(session: ReadOnlySession) -> JobTables:
    """Look for both tables; the queue's is the one called `job` that has a state and a name."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in session.rows(_LOOK):
        found.setdefault((row["schema"], row["name"]), {})[row["attribute"]] = row["default_text"] or ""
    users = [_table(key, columns, _USERS) for key, columns in found.items() if key[1] in ("tool_job", "ToolJob")]
    queues = [_table(key, columns, _QUEUE) for key, columns in found.items() if key[1] == "job"]
    return JobTables(
        next((table for table in users if table.has("id", "status")), None),
        next((table for table in queues if table.has("id", "name", "state")), None),
    )


def _table(key: tuple[str, str], columns: Mapping[str, str], meanings: Mapping[str, tuple[str, ...]]) -> JobTable:
    known = {
        meaning: next(name for name in names if name in columns)
        for meaning, names in meanings.items()
        if any(name in columns for name in names)
    }
    return JobTable(*key, known, dict(columns))


OPTIONS: Final = (
    "retry_limit",
    "retry_delay",
    "retry_backoff",
    "expire_seconds",
    "retention_minutes",
    "retention_seconds",
)


def read_settings(session: ReadOnlySession, tables: JobTables, facts: Facts) -> None:
    """Add what the database sets; the place of a column is its table."""
    for table in (tables.users, tables.queue):
        if table is not None:
            _defaults(table, facts)
    if tables.queue is not None:
        _queues(session, tables.queue.schema, facts)


def _defaults(table: JobTable, facts: Facts) -> None:
    for name, default in table.defaults.items():
        if not default:
            continue
        place = Place(f"{table.place.file}.{name}", 1)
        facts.columns.append(Column(table.name, name, default, place))
        value = scalar_of(tokens_of(default))
        if value is not None and meaning_of(name, option=True) is not None:
            facts.values.append(Value(name, value, place, SettingSource.COLUMN))


def _queues(session: ReadOnlySession, schema: str, facts: Facts) -> None:
    names = {
        row["column_name"]
        for row in session.rows(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %(s)s AND table_name = 'queue'",
            {"s": schema},
        )
    }
    options = [name for name in OPTIONS if name in names]
    if "name" not in names or not options:
        return
    columns = SQL(", ").join(Identifier(name) for name in options)
    query = SQL("SELECT name, {} FROM {}.queue ORDER BY name LIMIT 1000").format(columns, Identifier(schema))
    for row in session.rows(query):
        for name in options:
            _option(row, name, schema, facts)


def _option(row: dict[str, Any], name: str, schema: str, facts: Facts) -> None:
    value = row[name]
    if isinstance(value, (bool, int, float)):
        place = Place(f"database/{schema}.queue({row['name']}).{name}", 1)
        facts.values.append(Value(name, value, place, SettingSource.DATABASE, queue=row["name"]))
