"""Where the two tables are, and which columns they have: the guide's, the reference queue's, pg-boss 10 to 12."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from psycopg.sql import SQL, Composed, Identifier

from harness.lint.live.session import Session
from harness.lint.place import Place

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
class Table:
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
class Tables:
    """What of the two tables is there."""

    users: Table | None
    queue: Table | None


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


def find_tables(session: Session) -> Tables:
    """Look for both tables; the queue's is the one called `job` that has a state and a name."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in session.rows(_LOOK):
        found.setdefault((row["schema"], row["name"]), {})[row["attribute"]] = row["default_text"] or ""
    users = [_table(key, columns, _USERS) for key, columns in found.items() if key[1] in ("tool_job", "ToolJob")]
    queues = [_table(key, columns, _QUEUE) for key, columns in found.items() if key[1] == "job"]
    return Tables(
        next((table for table in users if table.has("id", "status")), None),
        next((table for table in queues if table.has("id", "name", "state")), None),
    )


def _table(key: tuple[str, str], columns: Mapping[str, str], meanings: Mapping[str, tuple[str, ...]]) -> Table:
    known = {
        meaning: next(name for name in names if name in columns)
        for meaning, names in meanings.items()
        if any(name in columns for name in names)
    }
    return Table(*key, known, dict(columns))
