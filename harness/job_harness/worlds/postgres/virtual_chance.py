"""Chance in a database: random() returns what it is told, and UUIDs come in the same order in each run.

It is for other people's SQL, beside the virtual clock. Of jobs that are created at one instant many
queues take the one first whose id is lower: with an id by real chance the same run went two ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from job_harness.errors import EnvironmentUnavailable

if TYPE_CHECKING:
    import psycopg

CHANCE_SCHEMA: Final = "job_harness_chance"
PARTS: Final = 1_000_000_000
"""A fraction is kept in this many parts."""


def uuids_from(digits: str) -> str:
    """Return SQL that lets gen_random_uuid() take its digits from an expression, 32 of them in hexadecimal."""
    return f"""
ALTER FUNCTION pg_catalog.gen_random_uuid() RENAME TO job_harness_real_uuid;
CREATE FUNCTION pg_catalog.gen_random_uuid() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT pg_catalog.overlay(pg_catalog.overlay({digits}, '4', 13), '8', 17)::pg_catalog.uuid
$$;
"""


_INSTALL: Final = f"""
CREATE SCHEMA {CHANCE_SCHEMA};
CREATE SEQUENCE {CHANCE_SCHEMA}.parts MINVALUE 0 START 0 NO CYCLE;
GRANT USAGE ON SCHEMA {CHANCE_SCHEMA} TO PUBLIC;
GRANT SELECT, UPDATE ON SEQUENCE {CHANCE_SCHEMA}.parts TO PUBLIC;
ALTER FUNCTION pg_catalog.random() RENAME TO job_harness_real_random;
CREATE SEQUENCE {CHANCE_SCHEMA}.uuids;
GRANT ALL ON SEQUENCE {CHANCE_SCHEMA}.uuids TO PUBLIC;
{uuids_from(f"pg_catalog.md5(pg_catalog.nextval('{CHANCE_SCHEMA}.uuids')::pg_catalog.text)")}
CREATE FUNCTION pg_catalog.random() RETURNS double precision LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT last_value OPERATOR(pg_catalog./) {PARTS}::double precision FROM {CHANCE_SCHEMA}.parts
$$;
"""


def install(connection: psycopg.Connection[Any]) -> None:
    """Put random() and gen_random_uuid() into our hands, before any schema is installed in this database.

    Until `SET_NEXT` random() answers 0.

    Needs a superuser: raises EnvironmentUnavailable if there is none. Harmless when repeated.
    """
    import psycopg

    there = connection.execute(f"SELECT to_regclass('{CHANCE_SCHEMA}.parts') IS NOT NULL".encode()).fetchone()
    if there is not None and there[0]:
        return
    try:
        with connection.transaction():
            connection.execute(b"SET LOCAL allow_system_table_mods = on")
            connection.execute(_INSTALL.encode())
    except psycopg.Error as error:
        raise EnvironmentUnavailable(
            f"random() and gen_random_uuid() of this database cannot be replaced: {error}",
            hint="PostgreSQL 13 or newer with superuser rights is needed; managed databases withhold them.",
        ) from error


SET_NEXT: Final = f"SELECT setval('{CHANCE_SCHEMA}.parts', $1)".encode()
"""Lets random() answer this many parts, for all sessions, until the next time."""

FIRST_UUID: Final = f"SELECT setval('{CHANCE_SCHEMA}.uuids', 1, false)".encode()
"""Lets the UUIDs begin anew, as in a new database."""


def parts_of(fraction: float) -> int:
    """Return the parameter of `SET_NEXT` for a number from 0 to below 1."""
    return int(fraction * PARTS)
