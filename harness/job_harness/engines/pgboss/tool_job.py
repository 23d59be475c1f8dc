"""The guide's `tool_job` as SQL: its table, made to run, and its columns by the names that an application uses.

Two repairs: `cuid()` is not PostgreSQL's own, so that it is made here, and the queue's table is
pg-boss's own, whose primary key holds the `name` that it is partitioned by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from job_harness.core.model import TERMINAL, JobId, Settings, Status
from job_harness.engines.two_tables import ToolJob, columns_of
from job_harness.worlds.wire.database import Row, instant_of, timestamp_of

TABLE: Final = "public.tool_job"
CREATE: Final = b"""
CREATE FUNCTION public.cuid() RETURNS TEXT LANGUAGE sql VOLATILE AS $$ SELECT 'c' || replace(gen_random_uuid()::text, '-', '') $$;
CREATE TYPE public."ToolJobStatus" AS ENUM ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED');
CREATE TABLE public."user" ("id" TEXT PRIMARY KEY DEFAULT public.cuid());
CREATE TABLE public."tool_job" (
  "id"           TEXT PRIMARY KEY DEFAULT public.cuid(),
  "toolSlug"     TEXT NOT NULL,
  "status"       public."ToolJobStatus" DEFAULT 'PENDING',
  "priority"     INTEGER DEFAULT 0,
  "input"        JSONB NOT NULL,
  "output"       JSONB,
  "error"        TEXT,
  "userId"       TEXT REFERENCES public."user"("id"),
  "sessionId"    TEXT,
  "pgBossJobId"  TEXT UNIQUE,
  "attempts"     INTEGER DEFAULT 0,
  "maxAttempts"  INTEGER DEFAULT 3,
  "startedAt"    TIMESTAMPTZ,
  "completedAt"  TIMESTAMPTZ,
  "expiresAt"    TIMESTAMPTZ,
  "createdAt"    TIMESTAMPTZ DEFAULT now(),
  "updatedAt"    TIMESTAMPTZ DEFAULT now()
);
"""  # noqa: E501 - as the guide has it
COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    "tool": ("toolSlug", "text"),
    "status": ("status", 'public."ToolJobStatus"'),
    "priority": ("priority", "int"),
    "input": ("input", "jsonb"),
    "output": ("output", "jsonb"),
    "error": ("error", "text"),
    "attempts": ("attempts", "int"),
    "max_attempts": ("maxAttempts", "int"),
    "started_at": ("startedAt", "timestamptz"),
    "completed_at": ("completedAt", "timestamptz"),
    "expires_at": ("expiresAt", "timestamptz"),
}
"""By name, what the column is called in SQL and its type."""
SELECT: Final = f'SELECT * FROM {TABLE} ORDER BY "createdAt", id'
DELETE: Final = f"DELETE FROM {TABLE} WHERE id = $1 RETURNING id".encode()


class ToolJobStatement:
    """Text with its parameters, `$1`, `$2`, ..., as it grows."""

    def __init__(self) -> None:
        self.parameters: list[Any] = []

    def value(self, value: Any, kind: str) -> str:
        """Return the place of one more parameter. Raises ValueError, TypeError for what JSON cannot hold."""
        if kind == "jsonb" and value is not None:
            value = json.dumps(value, allow_nan=False)
        elif kind == "timestamptz" and value is not None:
            value = timestamp_of(value)
        self.parameters.append(value)
        return f"${len(self.parameters)}::{kind}"

    def column(self, name: str, value: Any, sign: str) -> str:
        """Return a column and its value, set or compared."""
        column, kind = COLUMNS[name]
        return f'"{column}" {sign} {self.value(value, kind)}'


def insertion(job: JobId, values: Mapping[str, Any], settings: Settings) -> tuple[bytes, list[Any]]:
    """Return the statement that inserts a row. Raises TypeError for a column that does not exist."""
    columns = {"tool": "tool", "input": None, "max_attempts": settings.max_attempts, **columns_of(values)}
    statement = ToolJobStatement()
    places = [statement.value(job, "text")]
    for name, value in columns.items():
        kind = COLUMNS[name][1]
        places.append(
            statement.value("null", "text") + "::jsonb"
            if name == "input" and value is None
            else statement.value(value, kind)
        )
    names = ", ".join(f'"{COLUMNS[name][0]}"' for name in columns)
    return f"INSERT INTO {TABLE} (id, {names}) VALUES ({', '.join(places)}) RETURNING id".encode(), statement.parameters


def update(
    job: JobId, where: Mapping[str, Any], values: Mapping[str, Any], settings: Settings
) -> tuple[bytes, list[Any]]:
    """Return the statement that sets columns where others are as said, and stamps what a status stamps."""
    columns = columns_of(values)
    statement = ToolJobStatement()
    sets = ['"updatedAt" = now()', *(statement.column(name, value, "=") for name, value in columns.items())]
    status = columns.get("status")
    if status is Status.PROCESSING and "started_at" not in columns:
        sets.append('"startedAt" = now()')
    elif status in TERMINAL:
        if "completed_at" not in columns:
            sets.append('"completedAt" = now()')
        if "expires_at" not in columns:
            kept = statement.value(timedelta(microseconds=settings.retention), "interval")
            sets.append(f'"expiresAt" = now() + {kept}')
    wheres = [f"id = {statement.value(job, 'text')}"]
    wheres += [statement.column(name, value, "IS NOT DISTINCT FROM") for name, value in columns_of(where).items()]
    text = f"UPDATE {TABLE} SET {', '.join(sets)} WHERE {' AND '.join(wheres)} RETURNING id"
    return text.encode(), statement.parameters


def tool_job_of(row: Row) -> ToolJob:
    """Return a row as an application sees it."""
    return ToolJob(
        id=row["id"],
        status=Status(row["status"]),
        max_attempts=row["maxAttempts"],
        created_at=instant_of(row["createdAt"]) or 0,
        updated_at=instant_of(row["updatedAt"]) or 0,
        tool=row["toolSlug"],
        input=row["input"],
        priority=row["priority"],
        attempts=row["attempts"],
        output=row["output"],
        error=row["error"],
        started_at=instant_of(row["startedAt"]),
        completed_at=instant_of(row["completedAt"]),
        expires_at=instant_of(row["expiresAt"]),
    )
