"""Statements of the harness's own, sent together: one round trip, plans that are kept, rows without a cursor.

What a small statement costs lies mostly beside it: in a cursor of psycopg's, which is made, described and dropped for
each, and in two processes waking each other. So a statement here takes along the one that reads what it changed, and
both are bare messages of libpq's pipeline. It uses what psycopg gives authors of adapters (`Transformer`, `generators`,
`pq`), as checked on psycopg 3.2 and 3.3. Must not know: queues, clocks.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeAlias

import psycopg
from psycopg import generators, pq
from psycopg.adapt import AdaptersMap, PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGconn, PGresult
from psycopg.types.string import TextLoader

from job_harness.worlds.postgres.absence import PatientConnection

Row: TypeAlias = dict[str, Any]
INVALID_OID: Final = 0


class PreparedQuery(NamedTuple):
    """A statement with parameters `$1`, `$2`, ..."""

    text: bytes
    values: Sequence[Any] = ()
    kept: bool = False
    """Whether it is run time and again: a row that reads as it did the last time is the same object as then."""


UNREAD: Final = 3
"""After 3 statements in a row without a look at the jobs, none is read along: a verb may have several statements, and
a benchmark that fills a queue looks at no job."""


class StatementPipeline:
    """One session's statements, beside whatever else is sent over its connection in between."""

    def __init__(self, connection: PatientConnection) -> None:
        connection.prepare_threshold = None  # What psycopg prepares it forgets at a rollback, by DEALLOCATE ALL.
        self._connection = connection
        self._adapter = Transformer(connection)
        self._names: dict[tuple[bytes, tuple[int, ...]], bytes] = {}
        """What is prepared, by its text and the types of its parameters, and what it is called."""
        self._columns: dict[bytes, tuple[str, ...]] = {}
        as_text = AdaptersMap()
        as_text.register_loader(INVALID_OID, TextLoader)  # of every type for which there is no other
        self._texts = Transformer(as_text)
        self._kept: dict[bytes, dict[tuple[str, ...], Row]] = {}
        """By statement, the rows of the last time, by the text in which they came."""

    def run(self, *queries: PreparedQuery) -> list[list[Row]]:
        """Run statements one after the other in one transaction; return the rows of each, by column.

        Raises psycopg's error where one was refused, or has a value that no column could hold: then
        none had an effect. Raises EnvironmentUnavailable or LimitReached where no answer comes.
        None sees what a trigger puts off until the transaction ends.
        """
        bound = [self._bound(text, values) for text, values, _ in queries]
        session = self._connection.pgconn
        session.enter_pipeline_mode()
        try:
            for one in bound:
                session.send_query_prepared(*one)
            session.pipeline_sync()
            results = self._connection.wait(_results(session))
        finally:
            with suppress(psycopg.OperationalError):  # It may have been interrupted: then it stays in the middle.
                session.exit_pipeline_mode()
        _refused(*results)
        told = zip(bound, results, queries, strict=True)
        return [self._read(name, result, kept=query.kept) for (name, *_), result, query in told]

    def _bound(self, text: bytes, values: Sequence[Any]) -> tuple[bytes, Sequence[Any], Sequence[pq.Format]]:
        """Return a statement's name and its parameters as they are sent; a new one is prepared now."""
        told: Sequence[Any] = []  # a list: psycopg 3.2 takes nothing else
        types: tuple[int, ...] = ()
        if values:
            told = list(self._adapter.dump_sequence(values, [PyFormat.AUTO] * len(values)))
            types = self._adapter.types or ()
        name = self._names.get((text, types))
        if name is None:
            name = b"harness_%d" % len(self._names)
            session = self._connection.pgconn
            session.send_prepare(name, text, types)
            _refused(*self._connection.wait(generators.execute(session)))
            self._names[text, types] = name
        return name, told, list(self._adapter.formats or ()) if values else []

    def _read(self, name: bytes, result: PGresult, *, kept: bool) -> list[Row]:
        if result.status != pq.ExecStatus.TUPLES_OK:
            return []
        columns = self._columns.get(name)
        if columns is None:
            columns = tuple(str(result.fname(place) or b"", "utf-8") for place in range(result.nfields))
            self._columns[name] = columns

        def by_column(values: Sequence[Any]) -> Row:
            return dict(zip(columns, values, strict=True))

        if not kept:
            self._adapter.set_pgresult(result)
            return self._adapter.load_rows(0, result.ntuples, by_column)
        self._texts.set_pgresult(result)
        texts = self._texts.load_rows(0, result.ntuples, tuple)
        before = self._kept.get(name, {})
        if any(text not in before for text in texts):
            self._adapter.set_pgresult(result)
        rows = [before.get(text) or self._adapter.load_row(place, by_column) for place, text in enumerate(texts)]
        self._kept[name] = dict(zip(texts, rows, strict=True))
        return rows


def _results(session: PGconn) -> Generator[Any, Any, list[PGresult]]:
    """Send what is left to send, and collect the result of each statement up to the end of the transaction."""
    yield from generators.send(session)
    results: list[PGresult] = []
    while True:
        results += yield from generators.fetch_many(session)
        if results and results[-1].status == pq.ExecStatus.PIPELINE_SYNC:
            return results[:-1]


def _refused(*results: PGresult) -> None:
    """Raise the error that a statement ended with, where one did."""
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise error_from_result(result)
