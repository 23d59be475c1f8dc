"""The settings that a database holds itself: column defaults, and the options of queues that exist."""

from __future__ import annotations

from typing import Any, Final

from psycopg.sql import SQL, Identifier

from harness.lint.facts import Column, Facts
from harness.lint.live.session import Session
from harness.lint.live.tables import Table, Tables
from harness.lint.place import Place, Source, Value
from harness.lint.readers.sql import scalar_of, tokens_of
from harness.lint.settings_names import meaning_of

OPTIONS: Final = (
    "retry_limit",
    "retry_delay",
    "retry_backoff",
    "expire_seconds",
    "retention_minutes",
    "retention_seconds",
)


def read_settings(session: Session, tables: Tables, facts: Facts) -> None:
    """Add what the database sets; the place of a column is its table."""
    for table in (tables.users, tables.queue):
        if table is not None:
            _defaults(table, facts)
    if tables.queue is not None:
        _queues(session, tables.queue.schema, facts)


def _defaults(table: Table, facts: Facts) -> None:
    for name, default in table.defaults.items():
        if not default:
            continue
        place = Place(f"{table.place.file}.{name}", 1)
        facts.columns.append(Column(table.name, name, default, place))
        value = scalar_of(tokens_of(default))
        if value is not None and meaning_of(name, option=True) is not None:
            facts.values.append(Value(name, value, place, Source.COLUMN))


def _queues(session: Session, schema: str, facts: Facts) -> None:
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
        facts.values.append(Value(name, value, place, Source.DATABASE, queue=row["name"]))
