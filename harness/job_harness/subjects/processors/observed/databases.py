"""SQL: what was said through a connection, and how much of it is committed; SQLite, psycopg, asyncpg, SQLAlchemy."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, Final, NamedTuple

from job_harness.core.sim.lifetime import WITHIN_LIBRARY, Severed
from job_harness.core.sim.loop import VirtualLoop
from job_harness.subjects.processors.observed.account import (
    Observations,
    ObservedEffect,
    Source,
    Stands,
    inside,
    mark,
    observing,
    replace,
    shortened,
)
from job_harness.subjects.processors.sql_statement import Nature, SqlStatement, statement_of
from job_harness.worlds.patience import ready


class _LastWords(NamedTuple):
    """What a server answered to one that died while it waited for it."""

    did: Mapping[str, int | None]
    """`INSERT`, `COMMIT` and the like that succeeded -> how many rows each changed."""
    idle: bool
    """Whether no transaction is open now."""

    @classmethod
    def of_tags(cls, tags: Iterable[str], *, idle: bool) -> _LastWords:
        """Read PostgreSQL's command tags, such as `INSERT 0 1`."""
        words = [tag.split() for tag in tags if tag]
        return cls({each[0]: int(each[-1]) if each[-1].isdigit() else None for each in words}, idle)


LAST_WORDS_SECONDS: Final = 1.0
"""Real seconds for which the server of a dead delivery may still work at what it was asked for."""


class Connection(Source):
    """What one delivery did through one connection, and how much of it is committed."""

    def __init__(
        self,
        about: Any,
        *,
        in_transaction: Callable[[], bool] | None = None,
        roll_back: Callable[[], None] = lambda: None,
        last_words: Callable[[], _LastWords | None] | None = None,
        descriptor: Callable[[], int] | None = None,
    ) -> None:
        """Follow `about`, which lives on; without `in_transaction`, the statements that were heard say so.

        `last_words` waits for what its server is about to answer, where `descriptor` is the socket to it.
        """
        self._about = about
        self.asked: tuple[SqlStatement, ObservedEffect] | None = None
        self.task: asyncio.Task[Any] | None = None
        """Who waits for the answer, where that is a task."""
        self._last_words = last_words
        self._descriptor = descriptor
        self._begun = False
        self._in_transaction = in_transaction or (lambda: self._begun)
        self._roll_back = roll_back
        self._open: list[ObservedEffect] = []
        self._points: list[tuple[str, int]] = []
        self._committed = False

    def control(self, what: str) -> None:
        """Begin, commit, roll back, or do one of these with a savepoint."""
        word, _, name = what.partition(" ")
        self._begun = word == "begin" or (self._begun and word not in ("commit", "rollback"))
        if word == "rollback":
            self._drop(0)
        elif word == "commit":
            self._commit()
        elif word == "savepoint":
            self._points.append((name, len(self._open)))
        elif word == "to":
            for index in range(len(self._points) - 1, -1, -1):
                if self._points[index][0] == name:
                    self._drop(self._points[index][1])
                    del self._points[index + 1 :]
                    break

    @contextlib.contextmanager
    def asking(self, said: tuple[SqlStatement, ObservedEffect]) -> Iterator[None]:
        """Run a statement: until it has been answered, what its server did is not known here."""
        self.asked = said
        try:
            yield
        finally:
            self.asked = None

    @property
    def holds(self) -> bool:  # type: ignore[override]  # what others never do, this one finds out
        return self._descriptor is not None and (self.asked is not None or self._busy())

    def hear_out(self, observed: Observations) -> None:
        words = None if self._last_words is None else self._last_words()
        said, self.asked = self.asked, None
        if words is None:
            return
        self._begun, self._in_transaction = not words.idle, lambda: self._begun
        if "ROLLBACK" in words.did:
            self._drop(0)
        if said is not None and said[0].verb in words.did:
            ran_statement(self, observed, said, words.did[said[0].verb])

    def abort(self) -> None:
        if self._descriptor is None or not self.holds:
            return
        with contextlib.suppress(OSError, ValueError), socket.socket(fileno=os.dup(self._descriptor())) as end:
            end.shutdown(socket.SHUT_RDWR)
        self._drop(0)

    def hold(self, effect: ObservedEffect) -> None:
        """Keep one until its transaction ends."""
        effect.stands = Stands.OPEN
        self._open.append(effect)

    def find_what_stands(self) -> bool:
        if self._open and not self._busy():
            self._commit()
        committed, self._committed = self._committed, False
        return committed

    def give_up(self) -> None:
        if self._open:
            with contextlib.suppress(Exception):
                self._roll_back()
        self._drop(0)

    def _busy(self) -> bool:
        try:
            return self._in_transaction()
        except Exception:  # noqa: BLE001 - it was closed: what was open is rolled back
            self._drop(0)
            return False

    def _commit(self) -> None:
        for effect in self._open:
            if effect.stands == Stands.OPEN:
                effect.stands = Stands.DONE
                self._committed = self._committed or effect.nature != Nature.LOOKS
        self._open.clear()
        self._points.clear()

    def _drop(self, first: int) -> None:
        for effect in self._open[first:]:
            effect.stands = Stands.GONE
        del self._open[first:]


class _Sqlite(Connection):
    """A connection whose statements are heard before they run: whether they changed anything shows afterwards."""

    blocks = True

    def __init__(self, database: Any) -> None:
        super().__init__(
            database, in_transaction=lambda: bool(database.in_transaction), roll_back=lambda: database.rollback()
        )
        self._database = database
        self._running: ObservedEffect | None = None
        self._changes = 0

    def begin(self, effect: ObservedEffect) -> None:
        """A statement is about to run."""
        self._running, self._changes = effect, self._database.total_changes
        self.hold(effect)

    def find_what_stands(self) -> bool:
        running, self._running = self._running, None
        if running is not None:
            with contextlib.suppress(Exception):  # It was closed meanwhile.
                if self._database.total_changes == self._changes and running in self._open:
                    running.stands = Stands.GONE  # It failed, or it found nothing to do.
                    self._open.remove(running)
        return super().find_what_stands()


def _follow(database: Any) -> None:
    def hear(sql: str) -> None:
        if sql.startswith("--"):
            return  # of a trigger
        within = WITHIN_LIBRARY.set(True)  # To close this connection would wait for a paused worker.
        try:
            follow(sql)
        finally:
            WITHIN_LIBRARY.reset(within)

    def follow(sql: str) -> None:
        try:
            observed = observing()
        except Severed:
            database.interrupt()
            return
        if observed is None or (does := statement_of(sql)) is None:
            return
        source: Any = observed.source(id(database), lambda: _Sqlite(database))
        if does.control:
            source.find_what_stands()
            source.control(does.control)
            return
        try:
            observed.before()
        except Severed:  # It cannot be raised through SQLite; the statement ends before it does anything.
            database.interrupt()
            return
        effect = observed.add(ObservedEffect("sql", does.verb, does.table, shortened(sql), nature=does.nature))
        if does.verb != "SELECT":
            source.begin(effect)

    with contextlib.suppress(Exception):  # It was closed.
        database.set_trace_callback(hear)


def tell_sqlite3(sqlite: ModuleType) -> None:
    def opening(real: Any) -> Any:
        @functools.wraps(real)
        def connect(*arguments: Any, **options: Any) -> Any:
            database = real(*arguments, **options)
            _follow(database)
            return database

        return mark(connect)

    replace(sqlite, "connect", opening)
    replace(sqlite.dbapi2, "connect", opening)


def follow_open_databases() -> None:
    """Follow SQLite connections that were opened before `watch`, such as those of a test's module."""
    if (sqlite := sys.modules.get("sqlite3")) is not None:
        for thing in gc.get_objects():
            if issubclass(type(thing), sqlite.Connection):  # isinstance would ask a lazy object to load what it is
                _follow(thing)


def in_transaction() -> bool:
    """Whether a connection of SQLite's has an open transaction: its locks are this process's."""
    if (sqlite := sys.modules.get("sqlite3")) is None:
        return False
    for thing in gc.get_objects():
        if issubclass(type(thing), sqlite.Connection):
            with contextlib.suppress(sqlite.ProgrammingError):  # it is closed
                if thing.in_transaction:
                    return True
    return False


def sql_effect(sql: Any, values: Any) -> tuple[SqlStatement, ObservedEffect] | None:
    text = sql.decode("utf-8", "replace") if isinstance(sql, bytes) else sql if isinstance(sql, str) else _composed(sql)
    does = statement_of(text)
    if does is None:
        return None
    shown = shortened(text) if not values else shortened(f"{' '.join(text.split())} {values!r}")
    return does, ObservedEffect("sql", does.verb, does.table, shown, nature=does.nature)


def _composed(sql: Any) -> str:
    try:
        return str(sql.as_string(None))
    except Exception:  # noqa: BLE001 - whatever a library takes as a statement
        return str(sql)


def ran_statement(
    source: Connection, observed: Observations, said: tuple[SqlStatement, ObservedEffect], rows: int | None
) -> None:
    """Write down a statement that ran without an error."""
    does, effect = said
    if does.control:
        source.control(does.control)
        return
    observed.add(effect)
    if does.verb != "SELECT" and rows != 0:
        source.hold(effect)
    elif does.verb != "SELECT":
        effect.stands = Stands.GONE
    source.find_what_stands()
    observed.find_what_stands()


def _psycopg_source(observed: Observations, connection: Any) -> Connection:
    from psycopg.pq import ExecStatus, TransactionStatus

    def roll_back() -> None:
        if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
            connection.pgconn.finish()
        else:
            connection.pgconn.exec_(b"ROLLBACK")

    def last_words() -> _LastWords | None:
        pgconn, tags = connection.pgconn, []
        if pgconn.transaction_status != TransactionStatus.ACTIVE or pgconn.flush() != 0:
            return None
        while pgconn.transaction_status == TransactionStatus.ACTIVE:
            while pgconn.is_busy():
                if not ready([pgconn.socket], seconds=LAST_WORDS_SECONDS)[0]:
                    return None
                pgconn.consume_input()
            if (result := pgconn.get_result()) is None or result.status in (ExecStatus.COPY_IN, ExecStatus.COPY_OUT):
                break  # Of a COPY the rest is outstanding, and it says so forever.
            tags.append((result.command_status or b"").decode())
        return _LastWords.of_tags(tags, idle=pgconn.transaction_status == TransactionStatus.IDLE)

    def make() -> Connection:
        return Connection(
            connection,
            in_transaction=lambda: connection.pgconn.transaction_status != TransactionStatus.IDLE,
            roll_back=roll_back,
            last_words=last_words,
            descriptor=lambda: connection.pgconn.socket,
        )

    return observed.source(id(connection), make)  # type: ignore[return-value]


def _executing_psycopg(real: Any) -> Any:
    @functools.wraps(real)
    def run(cursor: Any, query: Any, params: Any = None, *rest: Any, **options: Any) -> Any:
        observed = observing()
        said = None if observed is None else sql_effect(query, params)
        if observed is None or said is None:
            return (yield from real(cursor, query, params, *rest, **options))
        observed.before()
        source = _psycopg_source(observed, cursor._conn)
        with source.asking(said):
            answer = yield from real(cursor, query, params, *rest, **options)
        ran_statement(source, observed, said, cursor.rowcount)
        return answer

    return mark(run)


def _take_turn() -> None:
    """Let what other tasks have asked a server be answered first: both are there at the same instant."""
    if isinstance(loop := asyncio._get_running_loop(), VirtualLoop):
        loop.selector.take_turn(-1)


def _sending_psycopg(real: Any) -> Any:
    @functools.wraps(real)
    def send(cursor: Any, *arguments: Any, **options: Any) -> None:
        _take_turn()
        real(cursor, *arguments, **options)

    return mark(send)


def _commanding_psycopg(real: Any) -> Any:
    @functools.wraps(real)
    def run(connection: Any, command: Any, *rest: Any, **options: Any) -> Any:
        _take_turn()
        answer = yield from real(connection, command, *rest, **options)
        observed = observing()
        said = None if observed is None else sql_effect(command, None)
        if observed is not None and said is not None and said[0].control:
            _psycopg_source(observed, connection).control(said[0].control)
        return answer

    return mark(run)


def _begun_copy(cursor: Any, statement: Any) -> Callable[[], None]:
    """Come to the moment before a COPY; return what is to be called after it."""
    observed = observing()
    said = None if observed is None else sql_effect(statement, None)
    if observed is None or said is None:
        return lambda: None
    observed.before()
    source = _psycopg_source(observed, cursor._conn)
    return lambda: ran_statement(source, observed, said, cursor.rowcount)


def _copying_psycopg(real: Any) -> Any:
    @contextlib.contextmanager
    @functools.wraps(real)
    def copy(cursor: Any, statement: Any, *rest: Any, **options: Any) -> Iterator[Any]:
        ran = _begun_copy(cursor, statement)
        with real(cursor, statement, *rest, **options) as open_copy:
            yield open_copy
        ran()

    return mark(copy)


def _copying_psycopg_async(real: Any) -> Any:
    @contextlib.asynccontextmanager
    @functools.wraps(real)
    async def copy(cursor: Any, statement: Any, *rest: Any, **options: Any) -> AsyncIterator[Any]:
        ran = _begun_copy(cursor, statement)
        async with real(cursor, statement, *rest, **options) as open_copy:
            yield open_copy
        ran()

    return mark(copy)


def tell_psycopg(psycopg: ModuleType) -> None:
    """Observe psycopg where its cursors, sync and async, come together: private generators, checked on 3.3."""
    replace(psycopg.Cursor, "copy", _copying_psycopg)
    replace(psycopg.AsyncCursor, "copy", _copying_psycopg_async)
    base = importlib.import_module("psycopg._cursor_base").BaseCursor
    for name in ("_execute_gen", "_executemany_gen_no_pipeline", "_executemany_gen_pipeline"):
        replace(base, name, _executing_psycopg)
    for name in ("_execute_send", "_send_prepare", "_send_query_prepared"):
        replace(base, name, _sending_psycopg)
    replace(importlib.import_module("psycopg._connection_base").BaseConnection, "_exec_command", _commanding_psycopg)


def _socket_of(connection: Any) -> Any:
    return connection._transport.get_extra_info("socket")


_READY: Final = b"Z\0\0\0\5"
"""PostgreSQL's ReadyForQuery; one byte follows, which says whether a transaction is open."""
_TAG: Final = re.compile(rb"C\0\0.{2}((?:INSERT|UPDATE|DELETE|MERGE|COPY|COMMIT|ROLLBACK)[ \d]*)\0", re.DOTALL)


def _last_words_of_asyncpg(connection: Any, source: Connection) -> _LastWords | None:
    """Read from the socket what asyncpg has not: it parses all that it has read. Nothing is heard through TLS."""
    waiting = getattr(source.task, "_fut_waiter", None)
    if source.asked is None or waiting is None or connection._transport.get_extra_info("sslcontext") is not None:
        return None
    if waiting.done():  # The answer is there, and the dead processor has not seen it.
        given = None if waiting.cancelled() or waiting.exception() is not None else waiting.result()
        parts = given if isinstance(given, tuple) else (given,)
        texts = [part.decode() if isinstance(part, bytes) else part for part in parts if isinstance(part, bytes | str)]
        return _LastWords.of_tags(texts, idle=not connection.is_in_transaction())
    heard, end = b"", _socket_of(connection)
    while heard[-6:-1] != _READY:
        if not ready([end.fileno()], seconds=LAST_WORDS_SECONDS)[0]:
            return None
        with socket.socket(fileno=os.dup(end.fileno())) as reader:
            more = reader.recv(2**16)
        if not more:
            return None
        heard += more
    return _LastWords.of_tags([tag.decode() for tag in _TAG.findall(heard)], idle=heard.endswith(b"I"))


def tell_asyncpg(asyncpg: ModuleType) -> None:
    def source_of(observed: Observations, connection: Any) -> Connection:
        def make() -> Connection:
            return Connection(
                connection,
                in_transaction=connection.is_in_transaction,
                last_words=lambda: _last_words_of_asyncpg(connection, source),
                descriptor=lambda: _socket_of(connection).fileno(),
            )

        source: Any = observed.source(id(connection), make)
        return source  # type: ignore[no-any-return]

    def running(text_of: Callable[[Any, tuple[Any, ...]], tuple[Any, Any, Any]]) -> Callable[[Any], Any]:
        def wrap(real: Any) -> Any:
            @functools.wraps(real)
            async def run(owner: Any, *arguments: Any, **options: Any) -> Any:
                observed = observing()
                connection, sql, values = text_of(owner, arguments)
                said = None if observed is None else sql_effect(sql, values)
                if observed is None or said is None:
                    return await real(owner, *arguments, **options)
                observed.before()
                source = source_of(observed, connection)
                source.task = asyncio.current_task()
                with inside(said[1]), source.asking(said):
                    answer = await real(owner, *arguments, **options)
                rows = re.search(r" (\d+)$", answer) if isinstance(answer, str) else None
                ran_statement(source, observed, said, int(rows[1]) if rows else None)
                return answer

            return mark(run)

        return wrap

    def of_connection(owner: Any, arguments: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        return owner, arguments[0] if arguments else "", arguments[1:]

    def of_statement(owner: Any, arguments: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        return owner._connection, owner._query, arguments

    def of_copy(owner: Any, arguments: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        return owner, f"COPY {arguments[0]} FROM STDIN" if arguments else "", ()

    for name in ("copy_to_table", "copy_records_to_table"):
        replace(asyncpg.Connection, name, running(of_copy))
    prepared = importlib.import_module("asyncpg.prepared_stmt").PreparedStatement
    for name in ("execute", "fetch", "fetchrow", "fetchval", "fetchmany", "executemany"):
        replace(asyncpg.Connection, name, running(of_connection))
        replace(prepared, name, running(of_statement))


_FOLLOWED_DRIVERS: Final = frozenset({"pysqlite", "aiosqlite", "psycopg", "psycopg_async", "asyncpg"})


def tell_sqlalchemy(sqlalchemy: ModuleType) -> None:
    """Watch the engines whose driver is not watched itself, such as psycopg2 and the MySQL ones."""
    engine = importlib.import_module("sqlalchemy.engine").Engine

    def source_of(observed: Observations, connection: Any) -> Connection:
        def make() -> Connection:
            return Connection(connection, in_transaction=lambda: True, roll_back=lambda: None)

        return observed.source(id(connection), make)  # type: ignore[return-value]

    def ran(connection: Any, cursor: Any, sql: str, values: Any, context: Any, many: bool) -> None:
        observed = observing()
        said = None if observed is None or connection.dialect.driver in _FOLLOWED_DRIVERS else sql_effect(sql, values)
        if observed is None or said is None:
            return
        source = source_of(observed, connection)
        ran_statement(source, observed, said, cursor.rowcount)
        if connection._is_autocommit_isolation():  # SQLAlchemy rolls back all the same, which changes nothing.
            source.control("commit")
            observed.find_what_stands()

    def ending(what: str) -> Callable[[Any], None]:
        def ended(connection: Any, *rest: Any) -> None:
            observed = observing()
            if observed is not None and connection.dialect.driver not in _FOLLOWED_DRIVERS:
                source_of(observed, connection).control(what)

        return ended

    sqlalchemy.event.listen(engine, "after_cursor_execute", ran)
    sqlalchemy.event.listen(engine, "commit", ending("commit"))
    sqlalchemy.event.listen(engine, "rollback", ending("rollback"))
