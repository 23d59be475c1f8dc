"""Giving every test an empty database, as cheaply as what the test did allows.

A test that only wrote rows costs one round trip of DELETEs. A test that changed the schema costs a
clone of the template; a fingerprint of what the database consists of (tables, sequences,
definitions) tells them apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import psycopg

from job_harness.errors import EnvironmentUnavailable, UsageError, did_you_mean
from job_harness.worlds.postgres.cluster import Cluster
from job_harness.worlds.postgres.virtual_clock import CLOCK_SCHEMA, FIRST_USER_OID

if TYPE_CHECKING:
    from psycopg import sql

# what a database consists of ------------------------------------------------------------------------------------------


# TRUNCATE and VACUUM rewrite rows of pg_class and pg_index, so there only what DDL changes is looked at; in
# the other catalogs every new row version means DDL. Ranges over indexed oids keep this in proportion to the
# user's own schema, not to the 3 000 functions that PostgreSQL brings along.
_VERSIONED: tuple[tuple[str, str, str, str], ...] = (
    # catalog, key, and how to know a temporary object: by its relation, or by its namespace
    ("pg_attribute", "attrelid", "attrelid", ""),
    ("pg_attrdef", "oid", "adrelid", ""),
    ("pg_constraint", "oid", "conrelid", "connamespace"),
    ("pg_trigger", "oid", "tgrelid", ""),
    ("pg_proc", "oid", "", "pronamespace"),
    ("pg_type", "oid", "", "typnamespace"),
    ("pg_namespace", "oid", "", "oid"),
    ("pg_enum", "oid", "", ""),
    ("pg_rewrite", "oid", "ev_class", ""),
    ("pg_policy", "oid", "polrelid", ""),
    ("pg_sequence", "seqrelid", "seqrelid", ""),
    ("pg_extension", "oid", "", ""),
)
_CLASS = (
    "relname, relnamespace, relkind, relnatts, relchecks, relhasrules, relhastriggers, relrowsecurity, "
    "relforcerowsecurity, relispartition, relpersistence, relowner, reloptions, relacl"
)
_INDEX = "indexrelid, indisunique, indisprimary, indisvalid, indkey"
_NO_TEMPORARY_RELATION = "NOT IN (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence = 't')"
_NO_TEMPORARY_NAMESPACE = "NOT IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname ~ '^pg_(toast_)?temp_')"


def fingerprint_query(*, without_temporary: bool) -> str:
    """Write the query for one text that any DDL changes.

    The quick form also changes with temporary tables; the form `without_temporary` takes some 2 ms
    more.
    """
    parts = [
        (
            f"(SELECT count(*) || ':' || coalesce(sum(hashtext(row(oid, {_CLASS})::text)::bigint), 0) "
            f"FROM pg_catalog.pg_class WHERE oid >= {FIRST_USER_OID} "
            "AND relpersistence <> 't' AND relkind <> 't')"
        ),
        (
            f"(SELECT count(*) || ':' || coalesce(sum(hashtext(row({_INDEX})::text)::bigint), 0) "
            f"FROM pg_catalog.pg_index WHERE indexrelid >= {FIRST_USER_OID}"
            + (f" AND indrelid {_NO_TEMPORARY_RELATION})" if without_temporary else ")")
        ),
    ]
    for catalog, key, relation, namespace in _VERSIONED:
        conditions = [f"{key} >= {FIRST_USER_OID}"]
        if without_temporary and relation:
            conditions.append(f"{relation} {_NO_TEMPORARY_RELATION}")
        if without_temporary and namespace:
            conditions.append(f"{namespace} {_NO_TEMPORARY_NAMESPACE}")
        parts.append(
            "(SELECT count(*) || ':' || coalesce(sum(xmin::text::bigint), 0) "
            f"FROM pg_catalog.{catalog} WHERE {' AND '.join(conditions)})"
        )
    return f"SELECT concat_ws(' ', {', '.join(parts)})"


_TABLES = """
SELECT c.oid, n.nspname, c.relname, c.relkind = 'p'
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', %s)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'
                  AND d.classid = 'pg_catalog.pg_class'::regclass)
ORDER BY 2, 3
"""

# A sequence may be owned by a column of a partition: what counts for keeping is its topmost table.
_SEQUENCES = """
SELECT s.seqrelid, n.nspname, c.relname, coalesce(pg_partition_root(d.refobjid)::oid, d.refobjid)
FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_depend d ON d.objid = s.seqrelid AND d.deptype IN ('a', 'i')
  AND d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
WHERE c.relpersistence <> 't' AND n.nspname <> %s ORDER BY 2, 3
"""

_VIEWS = """
SELECT n.nspname, c.relname, c.relispopulated
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND pg_catalog.pg_has_role(c.relowner, 'USAGE') ORDER BY c.oid
"""
"""Materialized views that this user may refresh; one that reads another has the higher oid."""

_REFERENCES = """
SELECT coalesce(pg_partition_root(conrelid)::oid, conrelid),
  coalesce(pg_partition_root(confrelid)::oid, confrelid)
FROM pg_catalog.pg_constraint WHERE contype = 'f'
"""


_RESISTS = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE NOT tgisinternal AND tgtype & 8 <> 0)
    OR EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE ev_type = '4')
    OR EXISTS (SELECT FROM pg_catalog.pg_class WHERE relforcerowsecurity)
"""
"""Whether triggers or rules of the user's act on a DELETE, or row security hides rows from it."""


@dataclass(frozen=True, slots=True)
class TableState:
    """A table that a reset may empty; of a partitioned table, its root."""

    oid: int
    schema: str
    name: str
    partitioned: bool

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class SequenceState:
    """A sequence, where it stood, and the table that owns it."""

    oid: int
    full_name: str
    last_value: int
    is_called: bool
    owner_oid: int | None


@dataclass(frozen=True, slots=True)
class Schema:
    """Tables, children before the parents that they refer to, and sequences."""

    tables: tuple[TableState, ...]
    sequences: tuple[SequenceState, ...]
    references: tuple[tuple[int, int], ...]
    resists: bool
    """Whether tables are not empty after a DELETE of one after the other by a user to whom rules apply."""

    @property
    def _names(self) -> dict[int, str]:
        return {table.oid: table.full_name for table in self.tables}

    def kept(self, names: Iterable[str]) -> frozenset[int]:
        """Return the oids of the tables named, with or without their schema.

        UsageError for an unknown table, and for one that refers to a table which is not kept too.
        """
        oids: set[int] = set()
        for name in names:
            matching = [table.oid for table in self.tables if name in (table.name, table.full_name)]
            if not matching:
                known = [word for table in self.tables for word in (table.name, table.full_name)]
                raise UsageError(
                    f"no table {name!r} to keep{did_you_mean(name, known)}",
                    hint=f"Tables: {', '.join(table.full_name for table in self.tables) or 'none'}.",
                )
            oids.update(matching)
        for child, parent in self.references:
            if child in oids and parent not in oids and parent in self._names:
                raise UsageError(
                    f"table {self._names[child]} cannot be kept while {self._names[parent]}, "
                    "which it refers to, is emptied",
                    hint="Keep both, or neither.",
                )
        return frozenset(oids)


def read_schema(connection: psycopg.Connection[tuple[object, ...]]) -> Schema:
    """Read the user's tables and sequences."""
    from psycopg import sql

    rows = connection.execute(_TABLES, [CLOCK_SCHEMA]).fetchall()
    tables = [TableState(_number(row[0]), str(row[1]), str(row[2]), bool(row[3])) for row in rows]
    sequences = []
    for oid, schema, name, owner in connection.execute(_SEQUENCES, [CLOCK_SCHEMA]).fetchall():
        query = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(str(schema), str(name)))
        state = connection.execute(query).fetchone()
        assert state is not None, "a sequence always has its one row"
        sequences.append(
            SequenceState(
                _number(oid),
                f"{schema}.{name}",
                _number(state[0]),
                bool(state[1]),
                None if owner is None else _number(owner),
            )
        )
    rows = connection.execute(_REFERENCES).fetchall()
    references = tuple((_number(row[0]), _number(row[1])) for row in rows)
    ordered, has_cycle = _children_first(tables, references)
    row = connection.execute(_RESISTS).fetchone()
    return Schema(tuple(ordered), tuple(sequences), references, has_cycle or row == (True,))


def _children_first(
    tables: Sequence[TableState], references: Iterable[tuple[int, int]]
) -> tuple[list[TableState], bool]:
    """Sort so that no table comes after one that it refers to; a cycle keeps the given order."""
    children: dict[int, set[int]] = {table.oid: set() for table in tables}
    for child, parent in references:
        if child != parent and child in children and parent in children:
            children[parent].add(child)
    ordered: list[TableState] = []
    left = list(tables)
    while left:
        done = {table.oid for table in ordered}
        free = [table for table in left if children[table.oid] <= done]
        if not free:
            return ordered + left, True
        ordered += free
        left = [table for table in left if table not in free]
    return ordered, False


def _number(value: object) -> int:
    assert isinstance(value, int), f"the catalog answered {value!r} where a number belongs"
    return value


# emptying it ----------------------------------------------------------------------------------------------------------


LOCK_SECONDS = 5
"""How long a reset waits for a row that an open transaction of the test still holds."""

VACUUM_EVERY = 500
"""Deleted rows stay in the files until a vacuum, and the servers here do not vacuum by themselves."""

_PLAN = "job_harness_reset"
_FINGERPRINT = "job_harness_fingerprint"


@dataclass(frozen=True, slots=True)
class Reset:
    """How a reset was done: `ended_sessions` counts those that a clone had to disconnect."""

    how: Literal["deleted", "cloned"]
    ended_sessions: int = 0


class Resetter:
    """Empties one database again and again.

    Construct it when the database is as every test should find it: sequences return to where they
    stand now, and materialized views that hold something else by then are refreshed. Tables are
    emptied, also those that have rows now: name these in `keep`, or see `filled`.
    """

    def __init__(
        self,
        cluster: Cluster,
        database: str,
        *,
        template: str | None = None,
        keep: Iterable[str] = (),
        url: str | None = None,
    ) -> None:
        """Read the schema. `template` is cloned after DDL; by default the one `database` was cloned from.

        With `url` it connects there, as the role that owns what is emptied.
        """
        self._url = cluster.url(database) if url is None else url
        self._cluster = cluster
        self._database = database
        self._template = cluster.template_of(database) if template is None else template
        self._keep = tuple(keep)
        self._plans: dict[frozenset[int], str] = {}
        self._number = 0
        self._resets = 0
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._of_parent: psycopg.Connection[tuple[object, ...]] | None = None
        self._owner = os.getpid()
        self._connect()
        self._look()
        self._schema.kept(self._keep)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that a reset empties unless they are kept, as `schema.name`, children first."""
        return tuple(table.full_name for table in self._schema.tables)

    def filled(self) -> tuple[str, ...]:
        """The tables that hold rows now, as `schema.name`: seed data that a reset deletes."""
        from psycopg import sql

        names = []
        for table in self._schema.tables:
            query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(table.schema, table.name))
            row = self._open.execute(query).fetchone()
            if row is not None and row[0]:
                names.append(table.full_name)
        return tuple(names)

    def reset(self, *, keep: Iterable[str] = ()) -> Reset:
        """Empty the tables and set the sequences back, in one round trip; clone the template after DDL.

        `keep` names tables (`name` or `schema.name`) to leave alone besides those of the constructor; a clone
        brings them back as they are in the template. Raises UsageError for an unknown table, DDL without a
        template, and for a lock that a transaction left open still holds.
        """
        import psycopg

        kept = self._schema.kept((*self._keep, *keep))
        _ = self._open  # In a forked child nothing is prepared yet.
        try:
            unchanged = self._deleted(kept)
        except psycopg.OperationalError:
            self._connect()  # The test ended our session, or restarted the server.
            unchanged = self._deleted(kept)
        if not unchanged:
            return Reset("cloned", self._clone())
        self._resets += 1
        if self._resets % VACUUM_EVERY == 0:
            self._open.execute("VACUUM")
        return Reset("deleted")

    def close(self) -> None:
        """Close the connection; the database stays."""
        self._plans.clear()  # They were prepared in the session that ends.
        if self._connection is not None and self._owner == os.getpid():
            self._connection.close()
        elif self._connection is not None:
            self._of_parent = self._connection  # Of the parent of this fork: to finalize it would be to tell.
        self._connection = None

    @property
    def descriptor(self) -> int:
        """That of the connection, which a forked child leaves alone: it opens one of its own."""
        return self._open.fileno()

    @property
    def _open(self) -> psycopg.Connection[tuple[object, ...]]:
        if self._connection is None or self._owner != os.getpid():
            self._connect()
        assert self._connection is not None
        return self._connection

    def _connect(self) -> None:
        import psycopg

        self.close()
        self._owner = os.getpid()
        try:
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=10)
        except psycopg.OperationalError as error:
            raise EnvironmentUnavailable(
                f"database {self._database!r} does not answer: {error}",
                hint="It was dropped, or the server was stopped: provision again.",
            ) from error
        self._connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'; SET plan_cache_mode = force_generic_plan")
        quick = fingerprint_query(without_temporary=False)
        try:
            # In the replica role neither foreign keys nor the user's own triggers fire on the way out. It is
            # set once for the session: each change of it throws all prepared plans away (0.6 ms).
            self._connection.execute("SET session_replication_role = replica")
            self._replica = True
        except psycopg.errors.InsufficientPrivilege:
            self._replica = False
        self._connection.execute(f"PREPARE {_FINGERPRINT} AS {quick}")

    def _look(self) -> None:
        """Take the database as it is now for what every reset returns to."""
        self._schema: Schema = read_schema(self._open)
        self._views = self._read_views()
        self._fingerprint = self._read_fingerprint()
        self._thorough = self._read_thoroughly()

    def _read_views(self) -> dict[tuple[str, str], str | None]:
        """Return a hash of what each materialized view holds; None: it was never filled."""
        from psycopg import sql

        found: dict[tuple[str, str], str | None] = {}
        rows = sql.SQL("SELECT concat_ws(' ', count(*), sum(hashtext(v::text)::bigint)) FROM {} AS v")
        for schema, name, filled in self._open.execute(_VIEWS).fetchall():
            row = self._open.execute(rows.format(sql.Identifier(str(schema), str(name)))).fetchone() if filled else None
            found[str(schema), str(name)] = None if row is None else str(row[0])
        return found

    def _refresh(self) -> None:
        """Refresh the materialized views that do not hold what they held at first."""
        from psycopg import sql

        now = self._read_views() if self._views else {}
        for name, content in self._views.items():
            if now.get(name) != content:
                statement = sql.SQL("REFRESH MATERIALIZED VIEW {}{}")
                how = sql.SQL(" WITH NO DATA" if content is None else "")
                self._open.execute(statement.format(sql.Identifier(*name), how))

    def _read_fingerprint(self) -> str:
        row = self._open.execute(f"EXECUTE {_FINGERPRINT}", prepare=False).fetchone()
        return "" if row is None else str(row[0])

    def _read_thoroughly(self) -> str:
        row = self._open.execute(fingerprint_query(without_temporary=True), prepare=False).fetchone()
        return "" if row is None else str(row[0])

    def _plan(self, kept: frozenset[int]) -> str:
        if kept not in self._plans:
            self._plans[kept] = self._prepare(kept)
        return self._plans[kept]

    def _deleted(self, kept: frozenset[int]) -> bool:
        """Run the plan, where it can be run at all; whether nothing but rows has changed."""
        import psycopg

        try:
            if unchanged := self._delete(kept):
                self._refresh()
            return unchanged
        except (
            psycopg.errors.UndefinedObject,
            psycopg.errors.UndefinedTable,
            psycopg.errors.FeatureNotSupported,
        ):
            self._open.rollback()
            return False  # What the plan refers to was dropped or altered.
        except psycopg.errors.LockNotAvailable:
            self._open.rollback()
            raise self._locked() from None

    def _delete(self, kept: frozenset[int]) -> bool:
        """Run the plan; whether the fingerprint is still the one that it was made for."""
        # A test that wrote a few rows is undone by DELETE in one round trip, a third of a
        # millisecond; a clone has to write a whole database, and TRUNCATE a new file for each
        # table. DELETE is right only if nothing but rows has changed, so the same round trip asks
        # for a fingerprint of the catalogs. A difference is looked at twice: the quick form also
        # changes with temporary tables, which need no clone.
        script = self._plan(kept)
        row = self._open.execute(script.encode(), prepare=False).fetchone()
        if row is not None and row[0] == self._fingerprint:
            return True
        if self._read_thoroughly() != self._thorough:
            return False
        self._fingerprint = self._read_fingerprint()  # Only temporary objects came or went.
        return True

    def _prepare(self, kept: frozenset[int]) -> str:
        """Prepare the statements of one reset and return the script that executes them."""
        self._number += 1
        number = self._number
        parts = [f"EXECUTE {_FINGERPRINT}"]
        deletion = self._deletion(kept)
        if deletion is not None:
            if self._replica:
                parts.append(self._prepared(f"{_PLAN}_{number}", deletion.as_string(self._open)))
            else:
                parts.append(deletion.as_string(self._open))
        sequences = [item for item in self._schema.sequences if item.owner_oid not in kept]
        if sequences:
            values = ", ".join(f"({item.oid}, {item.last_value}, {str(item.is_called).lower()})" for item in sequences)
            statement = (
                "SELECT count(pg_catalog.setval(oid::oid::regclass, last_value::bigint, is_called)) "
                f"FROM (VALUES {values}) AS at_first(oid, last_value, is_called)"
            )
            parts.append(self._prepared(f"{_PLAN}_{number}_sequences", statement))
        return "; ".join(parts)

    def _prepared(self, name: str, statement: str) -> str:
        self._open.execute(f"PREPARE {name} AS {statement}".encode(), prepare=False)
        return f"EXECUTE {name}"

    def _deletion(self, kept: frozenset[int]) -> sql.Composed | None:
        from psycopg import sql

        tables = [table for table in self._schema.tables if table.oid not in kept]
        if not tables:
            return None
        names = [sql.Identifier(table.schema, table.name) for table in tables]
        if not self._replica and self._schema.resists:
            return sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(names))
        deletes = [
            sql.SQL("DELETE FROM {}" if table.partitioned else "DELETE FROM ONLY {}").format(name)
            for table, name in zip(tables, names, strict=True)
        ]
        if not self._replica:
            return sql.SQL("BEGIN; {}; COMMIT").format(sql.SQL("; ").join(deletes))
        # One statement is planned once and started once, however many tables there are.
        steps = [
            sql.SQL("{} AS ({})").format(sql.Identifier(f"t{number}"), delete)
            for number, delete in enumerate(deletes[1:])
        ]
        if not steps:
            return sql.Composed([deletes[0]])
        return sql.SQL("WITH {} {}").format(sql.SQL(", ").join(steps), deletes[0])

    def _clone(self) -> int:
        if self._template is None:
            raise UsageError(
                f"a test changed the schema of database {self._database!r}, which has no template",
                hint="Create it with create_database(name, template=...), so that it can be cloned again.",
            )
        self.close()
        ended = self._cluster.recreate_database(self._database, template=self._template)
        self._connect()
        self._look()
        return ended

    def _locked(self) -> UsageError:
        query = (
            "SELECT pid, state, left(query, 80) FROM pg_stat_activity "
            "WHERE datname = %s AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
        )
        rows = self._open.execute(query, [self._database]).fetchall()
        sessions = "; ".join(f"session {pid} ({state}): {text}" for pid, state, text in rows)
        return UsageError(
            f"database {self._database!r} cannot be reset: rows are locked for over {LOCK_SECONDS} s by "
            f"{sessions or 'a session that has just ended'}",
            hint="Commit, roll back or close the connections that a test opens before it ends.",
        )


# as it was at one moment ----------------------------------------------------------------------------------------------


_COLUMNS = """
SELECT attname FROM pg_catalog.pg_attribute
WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
_SESSIONS = """
SELECT pid FROM pg_catalog.pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_END_SESSIONS = "SELECT pg_terminate_backend(pid), pg_sleep(0.002) FROM unnest(%s::int[]) AS pid"
MOST_LOOKS = 1000
"""For sessions that are told to end: each takes two milliseconds."""


class KeptDatabase:
    """The rows and sequences of a database as they are now, to be put back, whatever was done to them since.

    They are kept as text and not as a template: a template cannot be made while a fixture holds a
    connection open.
    """

    def __init__(self, cluster: Cluster, database: str, *, template: str | None = None) -> None:
        """Read what every table holds."""
        self._resetter = Resetter(cluster, database, template=template)
        self._schema = self._resetter._schema
        self._views = self._resetter._views
        self._rows = [(table, text) for table in reversed(self._schema.tables) if (text := self._read(table))]
        self._sessions = self._others()

    @property
    def descriptor(self) -> int:
        """That of its connection."""
        return self._resetter.descriptor

    def restore(self) -> None:
        """Make it so again, and end the sessions that were opened since: one may still commit what it was told to.

        Raises EnvironmentUnavailable where that cannot be done.
        """
        import psycopg

        try:
            self._end_sessions()
            if self._resetter.reset().how == "cloned":
                self._after_clone()
            for table, text in self._rows:
                with self._resetter._open.cursor().copy(self._copy(table, "{} ({}) FROM STDIN")) as copy:
                    copy.write(text)
            self._resetter._refresh()
        except (psycopg.Error, UsageError) as error:
            told = f"the database of job_postgres cannot be made as it was when the test began: {error}"
            raise EnvironmentUnavailable(told) from None

    def close(self) -> None:
        """Close its connection."""
        self._resetter.close()

    def _after_clone(self) -> None:
        """Empty what the template holds, and let sequences stand where they stood here."""
        new = self._resetter._schema
        numbers = {one.full_name: one.oid for one in new.sequences}
        if [one.full_name for one in new.tables] != [one.full_name for one in self._schema.tables]:
            raise UsageError("a fixture had changed its schema, and so did a run")
        stood = [replace(one, oid=numbers[one.full_name]) for one in self._schema.sequences]
        self._schema = self._resetter._schema = replace(new, sequences=tuple(stood))
        oids = {one.full_name: one for one in new.tables}
        self._rows = [(oids[table.full_name], text) for table, text in self._rows]
        self._resetter._views = self._views
        self._resetter._plans.clear()
        self._resetter.reset()

    def _read(self, table: TableState) -> bytes:
        with self._resetter._open.cursor().copy(self._copy(table, "(SELECT {1} FROM {2}{0}) TO STDOUT")) as copy:
            return b"".join(bytes(part) for part in copy)

    def _copy(self, table: TableState, form: str) -> sql.Composed:
        from psycopg import sql

        columns = [sql.Identifier(str(name)) for (name,) in self._resetter._open.execute(_COLUMNS, [table.oid])]
        own = sql.SQL("" if table.partitioned else "ONLY ")
        return sql.SQL(f"COPY {form}").format(
            sql.Identifier(table.schema, table.name), sql.SQL(", ").join(columns), own
        )

    def _others(self) -> frozenset[int]:
        return frozenset(_number(pid) for (pid,) in self._resetter._open.execute(_SESSIONS))

    def _end_sessions(self) -> None:
        for _ in range(MOST_LOOKS):
            if not (new := sorted(self._others() - self._sessions)):
                return
            self._resetter._open.execute(_END_SESSIONS, [new])
