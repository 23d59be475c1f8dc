"""Brings a database to the schema this version needs. Knows the numbered scripts, not what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from job_harness_reference.errors import QueueError
from job_harness_reference.store.database import Connection, connect

_FILE_NAME: Final = re.compile(r"(?P<version>\d{4})_(?P<title>\w+)\.sql")

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('job_harness_reference.migrate', 0))"
_LEDGER: Final = """
CREATE TABLE IF NOT EXISTS "public"."reference_migration" (
  "version"    INTEGER PRIMARY KEY,
  "title"      TEXT NOT NULL,
  "appliedAt"  TIMESTAMPTZ NOT NULL DEFAULT now()
)
"""
_APPLIED: Final = 'SELECT "version" FROM "public"."reference_migration"'
_RECORD: Final = 'INSERT INTO "public"."reference_migration" ("version", "title") VALUES (%s, %s)'


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered script."""

    version: int
    title: str
    sql: str


def migrations() -> tuple[Migration, ...]:
    """Read the scripts in the order of their numbers; the first is `schema.sql`."""
    return tuple(sorted(_read(), key=lambda migration: migration.version))


def _read() -> Iterator[Migration]:
    folder = files("job_harness_reference").joinpath("sql")
    yield Migration(1, "schema", folder.joinpath("schema.sql").read_text(encoding="utf-8"))
    for file in folder.joinpath("migrations").iterdir():
        name = _FILE_NAME.fullmatch(file.name)
        if name is not None:
            yield Migration(int(name["version"]), name["title"], file.read_text(encoding="utf-8"))


async def migrate(dsn: str) -> tuple[int, ...]:
    """Apply what is missing, all or nothing, and return the versions applied; none if all are there.

    Two at once take turns. Raises `QueueError` where the database is newer than this version.
    """
    connection = await connect(dsn)
    try:
        return await migrate_connection(connection)
    finally:
        await connection.close()


async def migrate_connection(connection: Connection) -> tuple[int, ...]:
    """Do what `migrate` does on an open connection, in one transaction."""
    known = migrations()
    async with connection.transaction():
        await connection.execute(_LOCK)
        await connection.execute(_LEDGER)
        cursor = await connection.execute(_APPLIED)
        applied = {int(row["version"]) for row in await cursor.fetchall()}
        ahead = sorted(applied - {migration.version for migration in known})
        if ahead:
            raise QueueError(
                f"the database has migration {ahead[-1]}, this version knows {known[-1].version} at most; "
                "run the version that made it, or a newer one"
            )
        missing = [migration for migration in known if migration.version not in applied]
        for migration in missing:
            await connection.execute(migration.sql)
            await connection.execute(_RECORD, (migration.version, migration.title))
    return tuple(migration.version for migration in missing)
