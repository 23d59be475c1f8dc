"""The schema of a running database, read and written down as SQL: types, tables, functions, views and their parts.

The database is only read, in a transaction that can do nothing else; no row of it is looked at.
What is made of it is a copy without rows, in a database of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, LiteralString, NamedTuple

import psycopg

from job_harness.engines.queue_file.statement import QueueFileError, SqlSource
from job_harness.errors import EnvironmentUnavailable, did_you_mean
from job_harness.review.check.database import ReadOnlySession, TooSlow, read_only

_OURS: Final[LiteralString] = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema')"
_NO_EXTENSION: Final[LiteralString] = "NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = {}.oid AND e.deptype = 'e')"
_SCHEMAS: Final[LiteralString] = f"""
SELECT format('CREATE SCHEMA IF NOT EXISTS %I', n.nspname) AS sql FROM pg_namespace n
WHERE {_OURS} AND n.nspname <> 'public' ORDER BY 1"""
_EXTENSIONS: Final[LiteralString] = """
SELECT format('CREATE EXTENSION IF NOT EXISTS %I SCHEMA %I', e.extname, n.nspname) AS sql
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql' ORDER BY e.oid"""
_TYPES: Final[LiteralString] = f"""
SELECT format('CREATE %s %I.%I AS %s', CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, n.nspname, t.typname,
  CASE t.typtype
    WHEN 'e' THEN format('ENUM (%s)', (
      SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) FROM pg_enum e
      WHERE e.enumtypid = t.oid))
    WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) || CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END
    WHEN 'r' THEN format('RANGE (SUBTYPE = %s)', (
      SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid))
    ELSE format('(%s)', (
      SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
      FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)) END) AS sql
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE (t.typtype IN ('e', 'd', 'r') OR (t.typtype = 'c' AND c.relkind = 'c')) AND {_OURS}
  AND {_NO_EXTENSION.format("t")} ORDER BY t.oid"""
_DOMAINS: Final[LiteralString] = f"""
SELECT format('ALTER DOMAIN %I.%I %s', n.nspname, t.typname, part.sql) AS sql
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace, LATERAL (
  SELECT 'SET DEFAULT ' || pg_get_expr(t.typdefaultbin, 0) AS sql WHERE t.typdefaultbin IS NOT NULL
  UNION ALL SELECT format('ADD CONSTRAINT %I %s', k.conname, pg_get_constraintdef(k.oid))
  FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c') AS part
WHERE t.typtype = 'd' AND {_OURS} AND {_NO_EXTENSION.format("t")} ORDER BY 1"""
_SEQUENCES: Final[LiteralString] = f"""
SELECT format('CREATE SEQUENCE %I.%I AS %s INCREMENT %s MINVALUE %s MAXVALUE %s START %s %s', n.nspname, c.relname,
  format_type(s.seqtypid, NULL), s.seqincrement, s.seqmin, s.seqmax, s.seqstart,
  CASE WHEN s.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END) AS sql
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
WHERE c.relkind = 'S' AND {_OURS} AND {_NO_EXTENSION.format("c")}
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'i') ORDER BY 1"""
_COLLATIONS: Final[LiteralString] = f"""
SELECT format('CREATE COLLATION %I.%I (PROVIDER = %s, %s%s%s)', n.nspname, c.collname,
  CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
  CASE WHEN c.collprovider = 'c' THEN format('LC_COLLATE = %L, LC_CTYPE = %L', c.collcollate, c.collctype)
       ELSE format('LOCALE = %L', coalesce(row.told ->> 'colllocale', row.told ->> 'colliculocale', c.collcollate)) END,
  CASE WHEN NOT c.collisdeterministic THEN ', DETERMINISTIC = false' ELSE '' END,
  coalesce(', RULES = ' || quote_literal(nullif(row.told ->> 'collicurules', '')), '')) AS sql
FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace, LATERAL (SELECT to_jsonb(c) AS told) AS row
WHERE {_OURS} AND {_NO_EXTENSION.format("c")} ORDER BY 1"""
"""Releases of PostgreSQL keep the locale under three names."""
_COLLATED: Final[LiteralString] = f"""
SELECT c.oid::int8 AS oid, format('ALTER TABLE %I.%I ALTER COLUMN %I TYPE %s COLLATE %I.%I', n.nspname, c.relname,
  a.attname, format_type(a.atttypid, a.atttypmod), m.nspname, l.collname) AS sql
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid JOIN pg_collation l ON l.oid = a.attcollation
JOIN pg_namespace m ON m.oid = l.collnamespace
WHERE c.relkind IN ('r', 'p') AND a.attcollation <> t.typcollation AND {_OURS} ORDER BY 2"""
_TABLES: Final[LiteralString] = f"""
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, format(
  'CREATE TABLE %I.%I (%s)', n.nspname, c.relname, string_agg(
    format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
      || CASE WHEN a.attgenerated <> '' THEN ' GENERATED ALWAYS AS (' || pg_get_expr(d.adbin, d.adrelid) || ') STORED'
              WHEN a.attidentity <> '' THEN format(' GENERATED %s AS IDENTITY%s',
                CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, (
                  SELECT format(' (INCREMENT %s MINVALUE %s MAXVALUE %s START %s %s)', s.seqincrement, s.seqmin,
                    s.seqmax, s.seqstart, CASE WHEN s.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END)
                  FROM pg_depend o JOIN pg_sequence s ON s.seqrelid = o.objid
                  WHERE o.refobjid = c.oid AND o.refobjsubid = a.attnum AND o.deptype = 'i'))
              WHEN d.adbin IS NOT NULL THEN ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid) ELSE '' END
      || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END, ', ' ORDER BY a.attnum)) AS sql
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p') AND {_OURS} AND {_NO_EXTENSION.format("c")}
GROUP BY c.oid, n.nspname, c.relname ORDER BY 2, 3"""
"""A generated column is stored, also where PostgreSQL 18 computes it when it is read: an older server makes it, too."""
_FUNCTIONS: Final[LiteralString] = f"""
SELECT pg_get_functiondef(p.oid) AS sql,
  EXISTS (SELECT FROM pg_depend d LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
          WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
            AND (d.classid IN ('pg_attrdef'::regclass, 'pg_type'::regclass) OR k.contypid <> 0)) AS first
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prokind IN ('f', 'p') AND {_OURS} AND {_NO_EXTENSION.format("p")} ORDER BY p.oid"""
_VIEWS: Final[LiteralString] = f"""
SELECT c.oid::int8 AS oid, format('CREATE %s %I.%I AS %s',
    CASE c.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END, n.nspname, c.relname,
    rtrim(pg_get_viewdef(c.oid), ';')) AS sql
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND {_OURS} AND {_NO_EXTENSION.format("c")} ORDER BY c.oid"""
_SEARCH_PATH: Final[LiteralString] = """
SELECT array_to_string(array(SELECT quote_ident(name) FROM unnest(current_schemas(false)) AS name), ', ') AS path,
  set_config('search_path', '', true)"""
"""What a name without its schema means to the user's code; from there on, all that is read names its schema."""
_SEARCHED: Final = """SELECT set_config('search_path', {}, false);
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path FROM CURRENT', current_database()); END $$"""
_CONSTRAINTS: Final[LiteralString] = f"""
SELECT k.conrelid::int8 AS oid, k.confrelid::int8 AS other, format(
  'ALTER TABLE %I.%I ADD CONSTRAINT %I %s', n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)) AS sql
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype IN ('p', 'u', 'c', 'f', 'x') AND {_OURS} ORDER BY k.contype = 'f', k.conname"""
_INDEXES: Final[LiteralString] = f"""
SELECT i.indrelid::int8 AS oid, pg_get_indexdef(i.indexrelid) AS sql
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {_OURS} AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid) ORDER BY 2"""
_TRIGGERS: Final[LiteralString] = f"""
SELECT t.tgrelid::int8 AS oid, pg_get_triggerdef(t.oid) AS sql
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND {_OURS} ORDER BY 2"""


class LiveTable(NamedTuple):
    """One table of a database, and the SQL that makes it with what belongs to it."""

    name: str
    """As it is named in SQL: without its schema where that is public."""
    create: str
    rest: tuple[str, ...]
    """Collations of columns, constraints, indexes and triggers; a reference to a table that is left out is left out."""


class LiveSchema(NamedTuple):
    """What a database consists of, as SQL."""

    before: tuple[str, ...]
    """What tables may need: schemas, extensions, collations, types, sequences, functions of columns and domains."""
    tables: tuple[LiveTable, ...]
    functions: tuple[str, ...]
    """All others."""
    views: tuple[str, ...]
    """With what belongs to them."""
    search_path: str
    """Names of schemas, quoted where that is needed."""

    def text(self) -> str:
        """Return it as one script."""
        parts = (
            *self.before,
            *(table.create for table in self.tables),
            *self.functions,
            *(line for table in self.tables for line in table.rest),
            *self.views,
            _SEARCHED.format("'" + self.search_path.replace("'", "''") + "'"),
        )
        return "SET check_function_bodies = off;\n" + "".join(f"{part};\n" for part in parts)


def read_live_schema(dsn: str, *, only: Sequence[str] = ()) -> LiveSchema:
    """Read a database's schema, or of its tables `only` these; nothing is written to it, and no row is read.

    Raises EnvironmentUnavailable where it does not answer, UsageError where it has no such table.
    """
    try:
        with read_only(dsn) as session:
            return _read(session, only)
    except TooSlow:
        raise EnvironmentUnavailable(
            "the database did not list its tables within 10 s", hint="Give its schema as a file instead."
        ) from None


def _read(session: ReadOnlySession, only: Sequence[str]) -> LiveSchema:
    (searched,) = session.rows(psycopg.sql.SQL(_SEARCH_PATH))
    tables = session.rows(psycopg.sql.SQL(_TABLES))
    named = {_name(row): row for row in tables}
    for wanted in only:
        if wanted not in named:
            raise QueueFileError(
                f"the database has no table {wanted!r}{did_you_mean(wanted, named)}",
                hint=f"It has {', '.join(named) or 'no table at all'}.",
            )
    tables = [row for name, row in named.items() if not only or name in only]
    views = session.rows(psycopg.sql.SQL(_VIEWS))
    oids = {row["oid"] for row in (*tables, *views)}
    rest: dict[int, list[str]] = {oid: [] for oid in oids}
    for row in session.rows(psycopg.sql.SQL(_COLLATED)):
        if row["oid"] in oids:  # The server of the copy may lack a locale: then the order of texts is its own.
            rest[row["oid"]].append(_if_possible(row["sql"]))
    for query in (_CONSTRAINTS, _INDEXES, _TRIGGERS):
        for row in session.rows(psycopg.sql.SQL(query)):
            if row["oid"] in oids and row.get("other", 0) in {0, *oids}:
                rest[row["oid"]].append(row["sql"])

    def read(query: LiteralString) -> list[str]:
        return [row["sql"] for row in session.rows(psycopg.sql.SQL(query))]

    functions = session.rows(psycopg.sql.SQL(_FUNCTIONS))
    first, late = ([row["sql"] for row in functions if row["first"] is first] for first in (True, False))
    before = (
        *read(_SCHEMAS),
        *map(_if_possible, (*read(_EXTENSIONS), *read(_COLLATIONS), *read(_TYPES))),
        *read(_SEQUENCES),
        *map(_if_possible, (*first, *read(_DOMAINS))),
    )
    return LiveSchema(
        before,
        tuple(LiveTable(_name(row), row["sql"], tuple(rest[row["oid"]])) for row in tables),
        tuple(map(_if_possible, late)),
        tuple(_if_possible(sql) for row in views for sql in (row["sql"], *rest[row["oid"]])),
        searched["path"],
    )


def _if_possible(sql: str) -> str:
    """Leave out what cannot be made: it needs an extension, a language or a table that the copy lacks.

    Where the queue needs it after all, PostgreSQL says what is not there.
    """
    return f"DO $copied$ BEGIN {sql.rstrip()}; EXCEPTION WHEN OTHERS THEN NULL; END $copied$"


def _name(row: Any) -> str:
    return str(row["name"]) if row["schema"] == "public" else f"{row['schema']}.{row['name']}"


def copied_schema(dsn: str, *, path: str, line: int, only: Sequence[str] = ()) -> tuple[SqlSource, ...]:
    """Return the schema of a database as SQL whose every line is that of `connection` in the queue file."""
    try:
        text = read_live_schema(dsn, only=only).text()
    except EnvironmentUnavailable as error:
        said = error.message.removeprefix("--database: ")
        raise EnvironmentUnavailable(f"{path}:{line}: connection: {said}", hint=error.hint) from None
    return (SqlSource(text, path, (line,) * (text.count("\n") + 1), "connection"),)
