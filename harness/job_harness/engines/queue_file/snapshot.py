"""The tables of a queue file as a value: taken, put back, and what a verb makes of them remembered.

A verb is a function of the rows, the time and its parameters, so a search asks PostgreSQL once for
each, however many paths lead there. What is compared is what statements read: jobs as they are
seen, and columns that they go by.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from job_harness.core.history import Outcome
from job_harness.core.model import JobId, JobView
from job_harness.engines.queue_file.database import QueueDatabase
from job_harness.engines.queue_file.rows import Remembered, instant_shown
from job_harness.worlds.sql import code

_VACUUM_EVERY: Final = 1_000
_COLUMNS: Final = b"""
SELECT a.attrelid::int8 AS oid, a.attnum::int4 AS number, quote_ident(a.attname) AS name, a.attname AS plain,
       a.attrelid::regclass::text AS "table", a.attgenerated <> '' AS generated, c.relkind = 'p' AS partitioned
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attrelid = ANY (SELECT x::regclass FROM unnest($1::text[]) AS x)
  AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY 1, 2
"""
_SEQUENCES: Final = b"""
SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND n.nspname NOT IN ('pg_catalog', 'job_harness_clock')
  AND (n.nspname, c.relname) <> ('job_harness_chance', 'parts') ORDER BY 1
"""
"""Those that UUIDs are counted by too: a queue that is opened anew begins with the first, which a row may have."""
_CODE: Final = b"""
SELECT EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal)
    OR EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
               WHERE p.oid >= 16384 AND n.nspname NOT IN ('pg_catalog', 'pg_temp')) AS found
"""


class TableContent(dict[str, JobView]):
    """All rows as PostgreSQL writes them, and what the rows alone do not tell.

    A search compares what a snapshot holds beside jobs. Here it finds nothing: a mapping of no job.
    """

    def __init__(self, rows: tuple[Any, ...], remembered: Remembered) -> None:
        super().__init__()
        self.rows = rows
        self.remembered = remembered


class FileQueueState(NamedTuple):
    """A queue as it can be set back: what is seen, what else statements read, and all that stands in the tables."""

    views: Mapping[JobId, JobView]
    beside: frozenset[Any]
    content: TableContent


class _Column(NamedTuple):
    oid: int
    number: int
    name: str
    plain: str
    table: str
    generated: bool
    partitioned: bool
    """Whether its table keeps its rows in others, which are none of the tables that are read."""


class TableSnapshots:
    """Takes and puts back the tables of one database; it outlives the queues that are opened there."""

    def __init__(self, database: QueueDatabase) -> None:
        """Read which columns and sequences there are."""
        self._database = database
        self.recalls = False
        """Whether what a verb came to is remembered: only a search asks for snapshots."""
        session = database.session
        columns = [_Column(**row) for row in session.execute(_COLUMNS, [list(database.quoted)]).fetchall()]
        self._tables: list[tuple[str, list[_Column]]] = []
        for table in dict.fromkeys(column.table for column in columns):
            self._tables.append((table, [column for column in columns if column.table == table]))
        sequences = [str(row["name"]) for row in session.execute(_SEQUENCES).fetchall()]
        self._read = self._reading(sequences)
        self._put = self._putting(sequences)
        self._beside = self._beside_query(bool(session.execute(_CODE).fetchone()["found"]))  # type: ignore[index]
        self._known: dict[Hashable, FileQueueState] = {}
        self.came_to: dict[Hashable, tuple[Outcome, FileQueueState]] = {}
        """What a verb, asked in a state at an instant, came to."""
        self._in_place: tuple[Any, ...] | None = None
        self._puts = 0

    # SQL ------------------------------------------------------------------------------------------------------------

    def _reading(self, sequences: list[str]) -> bytes:
        read = [f"{'' if columns[0].partitioned else 'ONLY '}{table}" for table, columns in self._tables]
        parts = [f"ARRAY(SELECT t::text FROM {table} t ORDER BY t.tableoid, t.ctid)" for table in read]
        parts += [f"(SELECT ARRAY[last_value, is_called::int] FROM {name})" for name in sequences]
        return f"SELECT {', '.join(f'{part} AS x{n}' for n, part in enumerate(parts))}".encode()

    def _putting(self, sequences: list[str]) -> list[bytes]:
        """Return the statements that put rows in place: deletions, one insertion for each table, sequences."""
        deletions = [f"DELETE FROM {table}" for table, _ in self._tables]
        insertions = []
        for table, columns in reversed(self._tables):
            kept = [column.name for column in columns if not column.generated]
            insertions.append(
                f"INSERT INTO {table} ({', '.join(kept)}) OVERRIDING SYSTEM VALUE "
                f"SELECT {', '.join(f'(r).{name}' for name in kept)} "
                f"FROM (SELECT unnest($1::text[])::{table} AS r) AS rows"
            )
        settings = [f"SELECT setval('{name}', $1, $2)" for name in sequences]
        return [text.encode() for text in (*deletions, *insertions, *settings)]

    def _beside_query(self, code: bool) -> list[tuple[bytes, int | None]]:
        """Return what reads the columns that statements go by and `jobs` does not show; of its own table, by job."""
        origins = self._database.origins
        shown = {origin for name, origin in origins.items() if name != "token" and origin[0]}
        key = origins.get("key", origins["id"])
        queries: list[tuple[bytes, int | None]] = []
        for table, columns in self._tables:
            read = [c for c in columns if (c.oid, c.number) not in shown and (code or self._goes_by(c.plain))]
            if not read:
                continue
            of_jobs = next((c for c in columns if (c.oid, c.number) == key), None)
            names = [c.name for c in ([of_jobs, *read] if of_jobs else read)]
            queries.append((f"SELECT {', '.join(names)} FROM {table}".encode(), 0 if of_jobs else None))
        return queries

    def _goes_by(self, column: str) -> bool:
        """Say whether a statement names a column other than to write it: on the left of an assignment, or in a list."""
        text = " ; ".join(
            " ".join(words_and_signs(statement.source.text))
            for statements in self._database.file.verbs.values()
            for statement in statements[:1]
        )
        text = re.sub(r"insert into \S+(?: as \S+)? \( [^()]* \)", " ", text)
        text = re.sub(rf"(\bset|,) {re.escape(column.lower())} =", " ", text)
        return column.lower() in text.split()

    # taking and putting back ----------------------------------------------------------------------------------------

    def taken(self, views: Mapping[JobId, JobView], remembered: Remembered) -> FileQueueState:
        """Return the state of the tables as they are; the same state is the same value."""
        session = self._database.session
        row = session.execute(self._read, prepare=True).fetchone()
        rows = tuple(tuple(values) for values in (row or {}).values())
        self._in_place = rows
        memory = _frozen(remembered)
        known = self._known.get((rows, memory))
        if known is None:
            beside = frozenset(self._shown_beside(remembered)) if self._beside else frozenset()
            known = FileQueueState(dict(views), beside, TableContent(rows, remembered.copy()))
            self._known[rows, memory] = known
        return known

    def _shown_beside(self, remembered: Remembered) -> list[Hashable]:
        jobs = {str(key): job for job, key in remembered.keys.items()}
        numbers = {
            (job, _plain(token)): number for job, known in remembered.numbers.items() for token, number in known.items()
        }
        found: list[Hashable] = []
        for query, of_jobs in self._beside:
            for row in self._database.session.execute(query, prepare=True).fetchall():
                values = [_plain(value) for value in row.values()]
                if of_jobs is not None:
                    job = jobs.get(str(next(iter(row.values()))), "")
                    rest = [numbers.get((job, value), value) for value in values[1:]]
                    found.append((job, *rest))
                else:
                    found.append(tuple(values))
        return found

    def put(self, content: TableContent) -> None:
        """Let the tables hold this, and nothing else."""
        if content.rows == self._in_place:
            return
        session, rows = self._database.session, content.rows
        tables = len(self._tables)
        session.execute(b"SET session_replication_role = replica")
        with session.pipeline():
            for number in range(tables):
                session.execute(self._put[number], prepare=True)
            for number in range(tables):
                values = rows[tables - 1 - number]
                if values:
                    session.execute(self._put[tables + number], [list(values)], prepare=True)
            for number in range(tables, len(rows)):
                last, called = rows[number]
                session.execute(self._put[tables + number], [last, bool(called)], prepare=True)
        session.execute(b"SET session_replication_role = origin")
        self._puts += 1
        if self._puts % _VACUUM_EVERY == 0:
            session.execute(f"VACUUM {', '.join(table for table, _ in self._tables)}".encode(), prepare=False)
        self._in_place = rows

    def begin(self) -> None:
        """Take note that the tables were written to: what they hold is not known."""
        self._in_place = None


def words_and_signs(text: str) -> list[str]:
    """Return SQL in lower case as single words and signs, without comments and texts."""
    return [token.text.lower().strip('"') for token in code(text) if token.kind != "dollar"]


def _frozen(remembered: Remembered) -> Hashable:
    return (
        tuple((job, tuple(tokens.items())) for job, tokens in remembered.numbers.items()),
        tuple(remembered.last.items()),
        tuple(remembered.owners.items()),
        tuple(remembered.started.items()),
        tuple((job, view.status, view.token, view.completed_at) for job, view in remembered.gone.items()),
        tuple(remembered.keys.items()),
        tuple(remembered.claimed.items()),
        tuple(remembered.ended.items()),
        frozenset(remembered.reported),
        tuple(remembered.processes.items()),
        tuple(remembered.of_process.items()),
    )


def _plain(value: Any) -> Hashable:
    """Return a value as a search compares it: an instant as one, so that the time of day does not count."""
    if isinstance(value, datetime):
        return instant_shown(value)
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    if value is None or isinstance(value, bool | int | str):
        return value
    return repr(value)
