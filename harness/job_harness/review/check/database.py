"""A running database, read and never changed: where the tables are, and the settings that it holds itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed, Identifier

from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.review.check.facts import Column, Facts, Place, SettingSource, Value
from job_harness.review.check.readers.schema import scalar_of
from job_harness.review.check.settings import meaning_of
from job_harness.worlds.sql import code

LIMIT_SECONDS: Final = 10
LOCK_SECONDS = 2.0
CONNECT_SECONDS: Final = 10


class ReadOnlySession:
    """Runs queries within one snapshot; a statement that takes too long is told apart."""

    def __init__(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        self._connection = connection

    def rows(
        self, query: LiteralString | Composed | SQL, values: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return all rows. Raises TooSlow where the limit is reached."""
        try:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                cursor.execute(query, values)
                return cursor.fetchall()
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            raise TooSlow from None


class TooSlow(Exception):
    """A statement reached the limit."""


@contextmanager
def read_only(dsn: str, *, option: str = "--database") -> Iterator[ReadOnlySession]:
    """Open a session that cannot change anything: read-only, one snapshot, limits on statements and locks.

    Raises EnvironmentUnavailable, with the option that named it, where the database does not answer
    or refuses.
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
                connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
                connection.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
                yield ReadOnlySession(connection)
    except psycopg.Error as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EnvironmentUnavailable(
            f"{option}: {reason}", hint="Give the URL of a running PostgreSQL, with a role that may read."
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
class TableChoice:
    """`--table` and `--link`: which table has a row for each job, and what leads from one to the other.

    `link` is a column that holds the id of the queue's job, or `data.key` where the job's data holds the id of the row.
    """

    name: str = ""
    link: str = ""

    @property
    def data_key(self) -> str:
        """The key of the job's data that holds the id of the row."""
        return self.link.removeprefix("data.") if self.link.startswith("data.") else "toolJobId"


@dataclass(frozen=True, slots=True)
class JobTables:
    """What of the two tables is there."""

    users: JobTable | None
    queue: JobTable | None
    choice: TableChoice = TableChoice()

    @property
    def by_data(self) -> bool:
        """Whether the job leads to the row, and not the row to the job."""
        return self.choice.link.startswith("data.")


_LOOK = """
  SELECT n.nspname AS schema, c.relname AS name, a.attname AS attribute,
         pg_get_expr(d.adbin, d.adrelid) AS default_text
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
   WHERE c.relkind IN ('r', 'p') AND c.relname = ANY(%(names)s) AND NOT c.relispartition
     AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   ORDER BY n.nspname, c.relname, a.attnum
"""


def find_tables(session: ReadOnlySession, choice: TableChoice | None = None) -> JobTables:
    """Look for both tables; the queue's is the one called `job` that has a state and a name.

    Raises UsageError where the table or the column that is asked for is not there.
    """
    choice = choice or TableChoice()
    schema, _, name = choice.name.rpartition(".")
    wanted = [name] if name else ["tool_job", "ToolJob"]
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in session.rows(_LOOK, {"names": [*wanted, "job"]}):
        found.setdefault((row["schema"], row["name"]), {})[row["attribute"]] = row["default_text"] or ""
    meanings = dict(_USERS)
    if choice.link and not choice.link.startswith("data."):
        meanings["link"] = (choice.link,)
    users = [
        _table(key, columns, meanings)
        for key, columns in found.items()
        if key[1] in wanted and (not schema or key[0] == schema)
    ]
    queues = [_table(key, columns, _QUEUE) for key, columns in found.items() if key[1] == "job"]
    needed = ("id",) if name else ("id", "status")
    chosen = next((table for table in users if table.has(*needed)), None)
    if name and chosen is None:
        raise UsageError(f"--table {choice.name}: the database has no such table with an id", hint=_WRITE)
    if chosen is not None and meanings["link"] == (choice.link,) and not chosen.has("link"):
        raise UsageError(f"--link {choice.link}: {chosen.name} has no such column", hint=_WRITE)
    return JobTables(chosen, next((table for table in queues if table.has("id", "name", "state")), None), choice)


_WRITE: Final = "Write --table webhook_events --link data.eventId, or --link with the column that holds the job's id."


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
    """Add what the database sets; the place of a column is its table.

    A queue that fences its leases writes every option of a job itself, so that its column defaults
    never count.
    """
    if tables.users is not None:
        _defaults(tables.users, facts)
    if tables.queue is not None:
        if not tables.queue.has("lease_until"):
            _defaults(tables.queue, facts)
        _queues(session, tables.queue.schema, facts)


def _defaults(table: JobTable, facts: Facts) -> None:
    for name, default in table.defaults.items():
        if not default:
            continue
        place = Place(f"{table.place.file}.{name}", 1)
        facts.columns.append(Column(table.name, name, default, place))
        value = scalar_of(code(default))
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
