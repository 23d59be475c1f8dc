"""What a database consists of: its tables, its sequences and a fingerprint that DDL changes.

Read only; knows nothing of how a reset is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import psycopg

FIRST_USER_OID = 16384
"""Objects below were made by initdb."""

CLOCK_SCHEMA = "job_harness_clock"
"""The schema of the virtual clock, which no reset touches."""

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

    The quick form also changes with temporary tables; the form `without_temporary` takes some 2 ms more.
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

_REFERENCES = """
SELECT coalesce(pg_partition_root(conrelid)::oid, conrelid),
  coalesce(pg_partition_root(confrelid)::oid, confrelid)
FROM pg_catalog.pg_constraint WHERE contype = 'f'
"""


@dataclass(frozen=True, slots=True)
class Table:
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

    tables: tuple[Table, ...]
    sequences: tuple[SequenceState, ...]
    references: tuple[tuple[int, int], ...]
    has_cycle: bool

    @property
    def _names(self) -> dict[int, str]:
        return {table.oid: table.full_name for table in self.tables}

    def kept(self, names: Iterable[str]) -> frozenset[int]:
        """Answer the oids of the tables named, with or without their schema.

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
    tables = [Table(_number(row[0]), str(row[1]), str(row[2]), bool(row[3])) for row in rows]
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
    return Schema(tuple(ordered), tuple(sequences), references, has_cycle)


def _children_first(tables: Sequence[Table], references: Iterable[tuple[int, int]]) -> tuple[list[Table], bool]:
    """Sort so that no table comes after one that it refers to; a cycle keeps the given order."""
    children: dict[int, set[int]] = {table.oid: set() for table in tables}
    for child, parent in references:
        if child != parent and child in children and parent in children:
            children[parent].add(child)
    ordered: list[Table] = []
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
